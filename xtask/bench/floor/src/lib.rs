//! Constant filters: the least any filter in proxy-wasm costs, and so the floor our own is measured against.
//!
//! Without a plugin configuration it lets every request pass. A configuration is a response to give to
//! every request: status, header lines, an empty line, body, as HTTP/1 writes them. A first line `read` has it read the
//! head of each request before, as every filter has to that decides by it. Which it is, is decided once, at load.
#![forbid(unsafe_code)]

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

#[allow(unreachable_pub, reason = "the macro exports `_initialize`, which the host calls")]
mod start {
    use super::{LogLevel, Root};

    proxy_wasm::main! {{
        proxy_wasm::set_log_level(LogLevel::Info);
        proxy_wasm::set_root_context(|_| Box::new(Root { answer: None, reads: false }));
    }}
}

struct Root {
    answer: Option<Rc<Answer>>,
    reads: bool,
}

struct Answer {
    status: u32,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Answers every request.
struct Constant {
    answer: Rc<Answer>,
    reads: bool,
}

/// Lets every request pass.
struct Pass {
    reads: bool,
}

// === impl Answer ===

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\n\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.parse().ok()?;
        let headers = lines.map(|line| line.split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned())));
        Some(Self { status, headers: headers.collect::<Option<_>>()?, body: body.as_bytes().to_vec() })
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        if size == 0 {
            return true;
        }
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        let answer = configuration.strip_prefix(b"read\n");
        self.reads = answer.is_some();
        let answer = answer.unwrap_or(&configuration);
        if answer.is_empty() {
            return true;
        }
        self.answer = core::str::from_utf8(answer).ok().and_then(Answer::parse).map(Rc::new);
        self.answer.is_some()
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(match &self.answer {
            Some(answer) => Box::new(Constant { answer: Rc::clone(answer), reads: self.reads }),
            None => Box::new(Pass { reads: self.reads }),
        })
    }
}

impl Context for Constant {}

impl HttpContext for Constant {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        if self.reads {
            core::hint::black_box(self.get_http_request_headers_bytes());
        }
        let headers =
            self.answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.send_http_response(self.answer.status, headers, Some(&self.answer.body));
        Action::Pause
    }
}

impl Context for Pass {}

impl HttpContext for Pass {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        if self.reads {
            core::hint::black_box(self.get_http_request_headers_bytes());
        }
        Action::Continue
    }
}
