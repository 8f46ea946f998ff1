//! Tests of the simulator's own rules, each with a guest of a few lines.

use farebox_host_tests::envoy::{Envoy, Origin, Phase, Request};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A guest with the callbacks given. `$expect` traps unless a status is the one named; `$call` dispatches
/// a complete callout to a cluster whose name is `$len` bytes at 0.
fn guest(callbacks: &str) -> String {
    format!(
        r#"(module
        (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_continue_stream" (func $resume (param i32) (result i32)))
        (import "env" "proxy_send_local_response"
            (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_http_call"
            (func $dispatch (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 2)
        (global $free (mut i32) (i32.const 65536))
        (data (i32.const 0) "facilitator")
        (data (i32.const 32) ":pathx-seen")
        (data (i32.const 64) "\03\00\00\00\07\00\00\00\04\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00POST\00:path\00/\00:authority\00f\00")
        (data (i32.const 128) "\00\00\00\00")
        (func (export "proxy_on_memory_allocate") (param i32) (result i32)
            (global.get $free) (global.set $free (i32.add (global.get $free) (local.get 0))))
        (func $expect (param $status i32) (param $wanted i32)
            (if (i32.ne (local.get $status) (local.get $wanted)) (then unreachable)))
        (func $read (param $map i32) (result i32)
            (call $get (local.get $map) (i32.const 32) (i32.const 5) (i32.const 200) (i32.const 204)))
        (func $mark (param $map i32) (result i32)
            (call $add (local.get $map) (i32.const 37) (i32.const 6) (i32.const 36) (i32.const 1)))
        (func $call (param $len i32) (result i32)
            (call $dispatch (i32.const 0) (local.get $len) (i32.const 64) (i32.const 62) (i32.const 0) (i32.const 0)
                (i32.const 128) (i32.const 4) (i32.const 5000) (i32.const 208)))
        (func $refuse
            (call $expect (call $reply (i32.const 402) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 5)
                (i32.const 128) (i32.const 4) (i32.const -1)) (i32.const 0)))
        {callbacks})"#
    )
}

fn start(callbacks: &str) -> Envoy {
    let envoy = Envoy::with_guest(&guest(callbacks), 1);
    envoy.configure("").expect_taken();
    envoy
}

/// The message of the simulator's panic about a violated rule.
fn panic_of(event: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(event)).expect_err("the simulator let it pass");
    panic.downcast_ref::<String>().cloned().expect("the simulator panics with a text")
}

const REQUEST: &str = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)"#;
const RESPONSE: &str = r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)"#;
const CALLED: &str = r#"(func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)"#;

#[test]
fn request_headers_are_readable_in_the_request_phase_and_not_in_the_response_phase() {
    let envoy = start(&format!(
        "{REQUEST} (call $expect (call $read (i32.const 0)) (i32.const 0)) (i32.const 0))
         {RESPONSE} (call $expect (call $read (i32.const 0)) (i32.const 2)) (i32.const 0))"
    ));
    let stream = envoy.send(0, Request::get("/"));
    assert_eq!(stream.expect_forwarded().get(":path").as_deref(), Some("/"));
    stream.upstream_answers(204, &[]);
    stream.body_ends();
    assert_eq!(stream.expect_response(204).origin, Origin::Upstream);
}

#[test]
fn request_headers_are_gone_once_the_request_is_resumed() {
    let envoy = start(&format!(
        "{REQUEST} (call $expect (call $call (i32.const 11)) (i32.const 0)) (i32.const 1))
         {CALLED} (call $expect (call $mark (i32.const 0)) (i32.const 0))
            (call $expect (call $resume (i32.const 0)) (i32.const 0))
            (call $expect (call $mark (i32.const 0)) (i32.const 2)))"
    ));
    let stream = envoy.send(0, Request::get("/"));
    stream.expect_callout("/").replies(200, "");
    assert_eq!(stream.expect_forwarded().get("x-seen").as_deref(), Some("h"));
}

#[test]
fn a_second_resume_is_reported() {
    let envoy = start(&format!(
        "{REQUEST} (call $expect (call $call (i32.const 11)) (i32.const 0)) (i32.const 1))
         {CALLED} (drop (call $resume (i32.const 0))) (drop (call $resume (i32.const 0))))"
    ));
    let stream = envoy.send(0, Request::get("/"));
    let message = panic_of(|| stream.expect_callout("/").replies(200, ""));
    assert!(message.contains("resumed a request in phase AtUpstream"), "{message}");
}

#[test]
fn a_stream_paused_for_nothing_is_reported() {
    let envoy = start(&format!("{REQUEST} (i32.const 1))"));
    let message = panic_of(|| drop(envoy.send(0, Request::get("/"))));
    assert!(message.contains("paused a stream without a callout"), "{message}");
}

#[test]
fn a_local_reply_of_the_request_side_passes_the_guests_own_response_callback() {
    let envoy = start(&format!(
        "{REQUEST} (call $refuse) (i32.const 1))
         {RESPONSE} (call $expect (call $mark (i32.const 2)) (i32.const 0)) (i32.const 0))"
    ));
    let stream = envoy.send(0, Request::get("/"));
    let response = stream.expect_response(402);
    assert_eq!(response.headers.get("x-seen").as_deref(), Some("h"));
    assert_eq!((response.body.as_slice(), response.origin), (b"facil".as_slice(), Origin::Guest));
    assert_eq!((stream.forwarded(), stream.phase()), (None, Phase::Ended));
}

#[test]
fn a_local_reply_to_a_held_response_passes_no_callback_and_leaves_nothing_of_the_upstream() {
    let envoy = start(&format!(
        "{RESPONSE} (call $expect (call $mark (i32.const 2)) (i32.const 0))
            (call $expect (call $call (i32.const 11)) (i32.const 0)) (i32.const 1))
         {CALLED} (call $refuse))"
    ));
    let stream = envoy.send(0, Request::get("/"));
    stream.upstream_answers(200, &[("set-cookie", "secret")]);
    assert_eq!((stream.phase(), stream.response()), (Phase::ResponseHeld, None));
    stream.expect_callout("/").replies(200, "");
    let response = stream.expect_response(402);
    assert_eq!((response.headers.get("set-cookie"), response.headers.get("x-seen")), (None, None));
}

#[test]
fn a_second_local_reply_is_reported() {
    let envoy = start(&format!(
        "{REQUEST} (call $refuse) (drop (call $reply (i32.const 500) (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 128) (i32.const 4) (i32.const -1))) (i32.const 1))"
    ));
    let message = panic_of(|| drop(envoy.send(0, Request::get("/"))));
    assert!(message.contains("sent a second local reply"), "{message}");
}

#[test]
fn a_callout_needs_a_known_cluster() {
    let envoy =
        start(&format!("{REQUEST} (call $expect (call $call (i32.const 4)) (i32.const 2)) (i32.const 0))"));
    assert_eq!(envoy.send(0, Request::get("/")).expect_forwarded().len(), 7);
}

#[test]
fn a_reply_that_broke_off_has_no_headers_to_read() {
    let envoy = start(&format!(
        "{REQUEST} (call $expect (call $call (i32.const 11)) (i32.const 0)) (i32.const 1))
         {CALLED} (call $expect (local.get 2) (i32.const 0)) (call $expect (call $read (i32.const 6)) (i32.const 2))
            (call $refuse))"
    ));
    let stream = envoy.send(0, Request::get("/"));
    stream.expect_callout("/").breaks_off();
    assert_eq!(stream.expect_response(402).origin, Origin::Guest);
}

#[test]
fn a_callout_whose_client_left_never_calls_back() {
    let envoy = start(&format!(
        "{REQUEST} (call $expect (call $call (i32.const 11)) (i32.const 0)) (i32.const 1)) {CALLED} unreachable)"
    ));
    let stream = envoy.send(0, Request::get("/"));
    let callout = stream.expect_callout("/");
    stream.client_leaves();
    callout.replies(200, "");
    assert_eq!((stream.phase(), envoy.traps()), (Phase::Ended, Vec::new()));
}

#[test]
fn a_trap_closes_its_stream_and_the_next_request_gets_a_fresh_vm() {
    let envoy = start(&format!(
        "(global $seen (mut i32) (i32.const 0))
         {REQUEST} (if (global.get $seen) (then unreachable)) (global.set $seen (i32.const 1)) (i32.const 0))"
    ));
    envoy.allow_traps();
    let first = envoy.send(0, Request::get("/1"));
    let second = envoy.send(0, Request::get("/2"));
    assert_eq!(second.expect_response(503).origin, Origin::DeadVm);
    assert_eq!(second.forwarded(), None);
    first.upstream_answers(200, &[]);
    assert_eq!(first.expect_response(503).origin, Origin::DeadVm);
    assert_eq!(envoy.send(0, Request::get("/3")).expect_forwarded().get(":path").as_deref(), Some("/3"));
    assert_eq!(envoy.traps().len(), 1);
}

#[test]
fn a_trap_in_a_callout_reply_leaves_the_stream_hanging() {
    let envoy = start(&format!(
        "{REQUEST} (call $expect (call $call (i32.const 11)) (i32.const 0)) (i32.const 1)) {CALLED} unreachable)"
    ));
    envoy.allow_traps();
    let stream = envoy.send(0, Request::get("/"));
    stream.expect_callout("/").replies(200, "");
    assert_eq!((stream.phase(), stream.response()), (Phase::Hung, None));
}

#[test]
fn a_trap_nobody_allowed_fails_the_test() {
    let envoy = start(&format!("{REQUEST} unreachable)"));
    let message = panic_of(|| drop(envoy.send(0, Request::get("/"))));
    assert!(message.contains("the guest trapped"), "{message}");
}

#[test]
fn a_stream_keeps_its_root_context_alive_across_a_push() {
    let envoy = start("");
    let old = envoy.send(0, Request::get("/old"));
    envoy.configure("new").expect_taken();
    assert_eq!(envoy.live_roots(0), 2);
    old.upstream_answers(200, &[]);
    old.body_ends();
    assert_eq!(envoy.live_roots(0), 1);
}
