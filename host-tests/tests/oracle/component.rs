//! The real component in a host without imports.

use std::sync::OnceLock;

use farebox_testkit::paths;
use wasmtime::component::{Component, Linker, ResourceAny};
use wasmtime::{Engine, Store};

wasmtime::component::bindgen!({
    path: "../plugin/component/wit",
    world: "payments",
    additional_derives: [PartialEq, Eq],
});

pub(crate) use exports::farebox::x402::gate::{Answer, Decision, Edits, Flow, Header, Payment, Request};

/// Rules in their own instance.
pub(crate) struct Loaded {
    store: Store<()>,
    instance: Payments,
    rules: ResourceAny,
}

/// The real component: `FAREBOX_COMPONENT_WASM`, else that in the target directory.
fn component() -> &'static Component {
    static COMPONENT: OnceLock<Component> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let named = std::env::var_os("FAREBOX_COMPONENT_WASM").map(Into::into);
        let path = named.unwrap_or_else(|| paths::component().expect("cargo knows its target directory"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| {
            panic!(
                "{}: {error}. Build the component with `cargo xtask component`, or name it in \
                 FAREBOX_COMPONENT_WASM.",
                path.display()
            )
        });
        Component::new(&Engine::default(), bytes)
            .unwrap_or_else(|error| panic!("{}: {error:#}", path.display()))
    })
}

// === impl Loaded ===

impl Loaded {
    /// Loads rules, or says what is wrong with them.
    pub(crate) fn new(json: &str) -> Result<Self, String> {
        let engine = component().engine();
        let mut store = Store::new(engine, ());
        let instance = Payments::instantiate(&mut store, component(), &Linker::new(engine))
            .unwrap_or_else(|error| panic!("the component asks for what no host offers: {error:#}"));
        let rules = instance
            .farebox_x402_gate()
            .rules()
            .call_load(&mut store, json)
            .unwrap_or_else(|trap| panic!("`load` trapped: {trap:#}"))?;
        Ok(Self { store, instance, rules })
    }

    pub(crate) fn decide(&mut self, request: &Request, now: u64) -> Decision {
        let Self { store, instance, rules } = self;
        let decision = instance.farebox_x402_gate().rules().call_decide(store, *rules, request, now);
        decision.unwrap_or_else(|trap| panic!("`decide` trapped: {trap:#}\n{request:?}"))
    }

    pub(crate) fn challenge(&mut self, request: &Request) -> Option<Answer> {
        let Self { store, instance, rules } = self;
        let answer = instance.farebox_x402_gate().rules().call_challenge(store, *rules, request);
        answer.unwrap_or_else(|trap| panic!("`challenge` trapped: {trap:#}\n{request:?}"))
    }
}
