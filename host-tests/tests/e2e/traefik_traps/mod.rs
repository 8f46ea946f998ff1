//! Unexpected behaviour of Traefik, each with a test that fails if it affects Farebox. The simulator (`traefik_simulator`) and the checks of the artefact (`xtask::build`) cover the rest:
//!
//! | what Traefik does | held by |
//! |---|---|
//! | gets the instructions that copy memory wrong | `the_plugin_as_it_is_shipped_has_no_bulk_memory_instruction_and_no_names`; `header_values_of_every_length_pass_the_plugin_byte_for_byte` |
//! | delivers a buffered response unpaid when the plugin traps | allow-list of imports; `the_plugin_asks_for_nothing_it_must_not_use` |
//! | shows names of functions to clients | the same |
//! | uses an instance again that trapped | `a_trap_does_not_poison_the_next_request` |
//! | makes an instance for each request under way | `many_requests_at_once_have_an_instance_each_and_one_after_the_other_share_one`, `main_takes_less_than_five_milliseconds` |
//! | mixes up the sockets of plugins | allow-list of imports |
//! | invents randomness and monotonic time | allow-list of imports, lints of the plugin |
//! | cuts request bodies a plugin buffers | allow-list of imports; `request_bodies_of_100_kilobytes_arrive_byte_for_byte_however_they_are_framed` |
//! | fails over calls that read a response | allow-list of imports |
//! | holds a buffered stream back to its end | `events_of_a_paid_stream_arrive_one_by_one` |
//! | drops the router of a plugin that does not start | [`config`]; `a_plugin_that_is_broken_or_gone_lets_nothing_through_unpaid` |
//! | makes strings of the numbers in a plugin's configuration | [`config`] |
//! | keeps engines for a while after each change | one middleware, and no change faster than Traefik takes them (tests of `publish::traefik`); `a_hundred_reloads_take_no_more_memory_than_is_stated` |
//! | runs a plugin once for each attempt of a retry around it | [`retry`] |
//! | tells paths and header names apart that an upstream may not | [`wire`] |
//! | hands a plugin files that cannot be written | [`wire`]; `a_spool_that_cannot_be_written_fails_no_request_and_its_losses_are_told` |

mod config;
mod retry;
mod wire;

use farebox_testkit::stack::{Options, Shell};
use serde_json::Value;

use crate::traefik;

/// A Traefik whose static configuration is changed like this.
fn options(tweak: impl Fn(&mut Value) + Send + Sync + 'static) -> Options {
    Options { tweak: Box::new(tweak), ..traefik::options(Shell::Traefik) }
}
