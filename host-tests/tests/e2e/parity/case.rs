//! The vocabulary of the table: actions, and expected results.

use farebox_testkit::stack::Shell;
use farebox_testkit::wallet::Window;
use serde_json::Value;

use super::form::Form;
use crate::accounting::shop::Goods;
use crate::accounting::tally::Tally;
use crate::common::Answer;
use crate::support::{PAYMENT, X_PAYMENT};

/// One line of the table.
pub(super) struct Case {
    /// The row of the contract's flow table, and the special feature of the case.
    pub(super) name: String,
    /// Done before the request.
    pub(super) before: Vec<Step>,
    pub(super) act: Act,
    pub(super) request: Asked,
    pub(super) expected: Expected,
}

/// What is done before a request.
pub(super) enum Step {
    /// The next calls of an endpoint of the facilitator fail in a named way, and those after them in another.
    Fault { endpoint: &'static str, mode: &'static str, count: u64, then: &'static str },
    /// The window of the latest payment closes.
    Closed,
    /// The pricing file changes, and the new rules are enforced.
    Pricing(fn(&str) -> String),
    /// The pricing file is broken, and the companion has reported it.
    BrokenPricing(&'static str),
    /// The ledger becomes unreachable, or reachable again.
    Ledger { there: bool },
}

/// How the request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Sent, and the whole answer read.
    Ask,
    /// A purchase of `basic`, sent, while the upstream holds the answer.
    Begin,
    /// The answer of the begun request, which the upstream now sends.
    End,
    /// Sent, and left when the facilitator got this call.
    LeaveAt(&'static str),
    /// Sent, and left when the upstream got it.
    LeaveAtUpstream,
    /// Sent; what follows on the connection is sent and read back.
    Talk,
    /// Nothing is sent; the test waits for an event.
    Wait,
}

/// A request.
pub(super) struct Asked {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<usize>,
    pub(super) payment: Option<Pay>,
}

/// The payment of a request.
pub(super) enum Pay {
    /// A new one.
    New(Box<NewPayment>),
    /// The latest new payment, changed.
    Again(fn(&mut Value)),
    /// Another authorization of the same nonce as the latest new payment, which stays the latest.
    Rival(Box<NewPayment>),
}

pub(super) struct NewPayment {
    pub(super) goods: Goods,
    /// 1 or 2.
    pub(super) version: u8,
    pub(super) header: &'static str,
    /// How often the header is sent.
    pub(super) copies: usize,
    /// Which of the numbered wallets signs; the development wallet without it.
    pub(super) signer: Option<u64>,
    /// Changes the signed terms, and not the stated ones.
    pub(super) signed: fn(&mut Value),
    /// Changes the stated terms, and not the signed ones.
    pub(super) accepted: fn(&mut Value),
    pub(super) window: fn(&mut Window),
    /// Changes the payment after it was signed.
    pub(super) spoilt: fn(&mut Value),
}

/// What a case adds to the tally, at a time in Unix seconds.
pub(super) type Counted = Box<dyn Fn(&mut Tally, u64) + Send + Sync>;

/// The expected result, on every host.
pub(super) struct Expected {
    pub(super) status: u16,
    pub(super) form: Form,
    /// `success` of the receipts.
    pub(super) receipt: Option<bool>,
    /// Requests the upstream gets.
    pub(super) reached: u64,
    /// The expected calls to the facilitator; not checked if the companion finds out about an open settlement.
    pub(super) asked: Option<Vec<&'static str>>,
    /// State of the payment in the ledger.
    pub(super) ledger: Ledger,
    pub(super) counted: Counted,
    pub(super) checks: Vec<fn(&Answer) -> bool>,
    /// The host that answers before the rules, and its answer.
    pub(super) answers_itself: Option<(Shell, u16)>,
    /// Whether it is the same on every host.
    pub(super) is_compared: bool,
}

/// The payment in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ledger {
    /// Never seen there, or given back.
    Free,
    /// In this state.
    Has(&'static str),
    /// There is no payment, or its key is not known.
    Unasked,
}

/// A line about a row of the contract's table.
pub(super) fn case(row: &str, name: &str) -> Case {
    Case {
        name: format!("{row}: {name}"),
        before: Vec::new(),
        act: Act::Ask,
        request: Asked { method: "GET", path: String::new(), headers: Vec::new(), body: None, payment: None },
        expected: Expected {
            status: 0,
            form: Form::Nothing,
            receipt: None,
            reached: 0,
            asked: Some(Vec::new()),
            ledger: Ledger::Unasked,
            counted: Box::new(|_, _| {}),
            checks: Vec::new(),
            answers_itself: None,
            is_compared: true,
        },
    }
}

// === impl Case ===

/// The actions; the expected results are in [`super::expectations`].
impl Case {
    pub(super) fn fault(self, endpoint: &'static str, mode: &'static str) -> Self {
        self.faults(1, endpoint, mode)
    }

    pub(super) fn faults(mut self, count: u64, endpoint: &'static str, mode: &'static str) -> Self {
        self.before.push(Step::Fault { endpoint, mode, count, then: "none" });
        self
    }

    /// The next call fails in one way, and all after it in another.
    pub(super) fn fault_then(
        mut self,
        endpoint: &'static str,
        mode: &'static str,
        then: &'static str,
    ) -> Self {
        self.before.push(Step::Fault { endpoint, mode, count: 1, then });
        self
    }

    pub(super) fn closed(mut self) -> Self {
        self.before.push(Step::Closed);
        self
    }

    pub(super) fn pricing(mut self, change: fn(&str) -> String) -> Self {
        self.before.push(Step::Pricing(change));
        self
    }

    pub(super) fn broken_pricing(mut self, text: &'static str) -> Self {
        self.before.push(Step::BrokenPricing(text));
        self
    }

    pub(super) fn ledger_is(mut self, there: bool) -> Self {
        self.before.push(Step::Ledger { there });
        self
    }

    pub(super) const fn act(mut self, act: Act) -> Self {
        self.act = act;
        self
    }

    /// Asks for a path, by GET unless [`Case::by`] sets another method. The path may differ from that of the paid
    /// goods.
    pub(super) fn get(mut self, path: &str) -> Self {
        self.request.path = path.to_owned();
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers.push((name, value.to_owned()));
        self
    }

    pub(super) const fn body(mut self, bytes: usize) -> Self {
        self.request.body = Some(bytes);
        self
    }

    /// Asks to become a WebSocket.
    pub(super) fn upgrade(self) -> Self {
        let upgrade = self.header("connection", "upgrade").header("upgrade", "websocket");
        upgrade.header("sec-websocket-version", "13").header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")
    }

    pub(super) const fn by(mut self, method: &'static str) -> Self {
        self.request.method = method;
        self
    }

    /// Pays for goods at their path.
    pub(super) fn pays(mut self, goods: Goods, rest: &str) -> Self {
        self.request.path = goods.path(rest);
        self.request.payment = Some(Pay::New(Box::new(NewPayment::of(goods))));
        self
    }

    /// The same with the nonce of the latest payment.
    pub(super) fn rivals(mut self, goods: Goods, rest: &str) -> Self {
        self.request.path = goods.path(rest);
        self.request.payment = Some(Pay::Rival(Box::new(NewPayment::of(goods))));
        self
    }

    pub(super) fn again(self, path: &str) -> Self {
        self.again_but(path, |_| {})
    }

    pub(super) fn again_but(mut self, path: &str, change: fn(&mut Value)) -> Self {
        self.request.path = path.to_owned();
        self.request.payment = Some(Pay::Again(change));
        self
    }

    fn payment(mut self, change: impl FnOnce(&mut NewPayment)) -> Self {
        match &mut self.request.payment {
            Some(Pay::New(payment) | Pay::Rival(payment)) => change(payment),
            _ => panic!("{} has no new payment", self.name),
        }
        self
    }

    /// Version 1, in its header.
    pub(super) fn v1(self) -> Self {
        self.payment(|payment| (payment.version, payment.header) = (1, X_PAYMENT))
    }

    pub(super) fn in_header(self, header: &'static str) -> Self {
        self.payment(|payment| payment.header = header)
    }

    pub(super) fn copies(self, copies: usize) -> Self {
        self.payment(|payment| payment.copies = copies)
    }

    pub(super) fn signed_by(self, wallet: u64) -> Self {
        self.payment(|payment| payment.signer = Some(wallet))
    }

    pub(super) fn signed(self, change: fn(&mut Value)) -> Self {
        self.payment(|payment| payment.signed = change)
    }

    pub(super) fn accepted(self, change: fn(&mut Value)) -> Self {
        self.payment(|payment| payment.accepted = change)
    }

    pub(super) fn window(self, change: fn(&mut Window)) -> Self {
        self.payment(|payment| payment.window = change)
    }

    pub(super) fn spoilt(self, change: fn(&mut Value)) -> Self {
        self.payment(|payment| payment.spoilt = change)
    }

    /// The status of the host's own answer, if there is one.
    pub(super) fn own_answer(&self, host: Shell) -> Option<u16> {
        self.expected.answers_itself.filter(|(itself, _)| *itself == host).map(|(_, status)| status)
    }

    pub(super) fn goods(&self) -> Goods {
        match &self.request.payment {
            Some(Pay::New(payment) | Pay::Rival(payment)) => payment.goods,
            _ => panic!("{} has no goods of its own", self.name),
        }
    }
}

// === impl NewPayment ===

impl NewPayment {
    fn of(goods: Goods) -> Self {
        Self {
            goods,
            version: 2,
            header: PAYMENT,
            copies: 1,
            signer: None,
            signed: |_| {},
            accepted: |_| {},
            window: |_| {},
            spoilt: |_| {},
        }
    }
}
