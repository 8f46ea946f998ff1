//! What is asserted about a guest before it may be shipped: one that exports too little does not start, one
//! that imports too much asks the proxy for powers it must not have, and every worker of every proxy holds it
//! in memory.

use anyhow::{Context, Result, bail};
use wasmparser::{KnownCustom, Operator, Parser, Payload};

/// Larger guests are refused, in bytes.
const SIZE_LIMIT: usize = 400_000;

/// What a host loads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guest {
    /// File name, for people.
    pub(crate) name: &'static str,
    /// Profile of the workspace it is compiled in.
    pub(crate) profile: &'static str,
    /// What the host calls, and nothing else.
    pub(crate) exports: &'static [&'static str],
    /// The host functions it may link. A function that is not here would be a new power.
    pub(crate) imports: &'static [&'static str],
    /// Whether the host runs the bulk-memory instructions as they are meant.
    pub(crate) bulk_memory: bool,
}

/// What a module holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artefact {
    /// File name, for people.
    pub(crate) name: &'static str,
    /// Bytes.
    pub(crate) size: usize,
    /// Exported names, sorted.
    pub(crate) exports: Vec<String>,
    /// Imported `module.name`, sorted.
    pub(crate) imports: Vec<String>,
    /// Instructions that copy or fill memory.
    bulk_memory_operations: usize,
    /// Names of functions, which a host shows to clients with a trap.
    has_names: bool,
}

/// Reads a module and refuses one that breaks a rule of its host, naming every rule it breaks.
pub(crate) fn inspect(guest: &Guest, wasm: &[u8]) -> Result<Artefact> {
    let artefact = read(guest.name, wasm)?;
    let faults = artefact.faults(guest);
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    Ok(artefact)
}

fn read(name: &'static str, wasm: &[u8]) -> Result<Artefact> {
    let mut artefact = Artefact {
        name,
        size: wasm.len(),
        exports: Vec::new(),
        imports: Vec::new(),
        bulk_memory_operations: 0,
        has_names: false,
    };
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.context("not a WebAssembly module")? {
            Payload::ExportSection(section) => {
                for export in section {
                    artefact.exports.push(export?.name.to_owned());
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    artefact.imports.push(format!("{}.{}", import.module, import.name));
                }
            }
            Payload::CodeSectionEntry(function) => {
                for operator in function.get_operators_reader()? {
                    artefact.bulk_memory_operations += usize::from(is_bulk_memory(&operator?));
                }
            }
            Payload::CustomSection(section) => {
                artefact.has_names |= matches!(section.as_known(), KnownCustom::Name(_));
            }
            _ => {}
        }
    }
    artefact.exports.sort();
    artefact.imports.sort();
    Ok(artefact)
}

const fn is_bulk_memory(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::MemoryCopy { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryInit { .. }
            | Operator::DataDrop { .. }
            | Operator::TableCopy { .. }
            | Operator::TableFill { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. }
    )
}

// === impl Artefact ===

impl Artefact {
    fn faults(&self, guest: &Guest) -> Vec<String> {
        let mut faults = Vec::new();
        for name in guest.exports {
            if !self.exports.iter().any(|export| export == name) {
                faults.push(format!("does not export {name}"));
            }
        }
        for name in &self.exports {
            if !guest.exports.contains(&name.as_str()) {
                faults.push(format!("exports {name}, which nobody needs"));
            }
        }
        for name in &self.imports {
            if !guest.imports.contains(&name.as_str()) {
                faults.push(format!("imports {name}, which is not on the list of what it may use"));
            }
        }
        if !guest.bulk_memory && self.bulk_memory_operations > 0 {
            let count = self.bulk_memory_operations;
            faults.push(format!("has {count} bulk-memory instructions, which its host gets wrong"));
        }
        if self.has_names {
            faults.push("has a name section, which its host would show to clients".to_owned());
        }
        if self.size >= SIZE_LIMIT {
            faults.push(format!("has {} bytes, the limit is {SIZE_LIMIT}", self.size));
        }
        faults
    }
}

impl std::fmt::Display for Artefact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}: {} bytes (limit {SIZE_LIMIT})", self.name, self.size)?;
        writeln!(f, "  exports: {}", self.exports.join(" "))?;
        write!(f, "  imports: {}", self.imports.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ENVOY, TRAEFIK};
    use super::*;

    fn whole(guest: &Guest) -> Artefact {
        Artefact {
            name: guest.name,
            size: SIZE_LIMIT - 1,
            exports: guest.exports.iter().map(|name| (*name).to_owned()).collect(),
            imports: guest.imports.iter().map(|name| (*name).to_owned()).collect(),
            bulk_memory_operations: 0,
            has_names: false,
        }
    }

    #[test]
    fn a_module_within_the_rules_has_no_fault() {
        for guest in [ENVOY, TRAEFIK] {
            assert_eq!(whole(&guest).faults(&guest), Vec::<String>::new());
        }
    }

    #[test]
    fn a_missing_export_is_named() {
        let mut artefact = whole(&ENVOY);
        artefact.exports.retain(|name| name != "proxy_on_configure");
        assert_eq!(artefact.faults(&ENVOY), ["does not export proxy_on_configure"]);
    }

    #[test]
    fn a_body_handler_is_refused() {
        let mut artefact = whole(&ENVOY);
        artefact.exports.push("proxy_on_response_body".to_owned());
        assert_eq!(artefact.faults(&ENVOY), ["exports proxy_on_response_body, which nobody needs"]);
    }

    #[test]
    fn a_socket_import_is_refused() {
        for guest in [ENVOY, TRAEFIK] {
            let mut artefact = whole(&guest);
            artefact.imports.push("wasi_snapshot_preview1.sock_open".to_owned());
            let faults = artefact.faults(&guest);
            assert_eq!(faults.len(), 1);
            assert!(faults[0].starts_with("imports wasi_snapshot_preview1.sock_open"));
        }
    }

    #[test]
    fn buffering_and_reading_responses_are_not_among_the_powers_of_the_traefik_guest() {
        for power in ["enable_features", "read_body", "get_status_code", "add_header_value"] {
            let import = format!("http_handler.{power}");
            assert!(!TRAEFIK.imports.contains(&import.as_str()), "{import}");
        }
    }

    #[test]
    fn the_traefik_artefact_has_no_bulk_memory_instruction_and_no_names() {
        let mut artefact = whole(&TRAEFIK);
        artefact.bulk_memory_operations = 45;
        artefact.has_names = true;
        assert_eq!(
            artefact.faults(&TRAEFIK),
            [
                "has 45 bulk-memory instructions, which its host gets wrong",
                "has a name section, which its host would show to clients"
            ]
        );
    }

    #[test]
    fn bulk_memory_instructions_are_found_in_the_code() {
        // (module (memory 1) (func i32.const 0 i32.const 0 i32.const 0 memory.fill))
        let module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\x0a\x0d\x01\x0b\0\
            \x41\0\x41\0\x41\0\xfc\x0b\0\x0b";
        let artefact = read("test", module).unwrap();
        assert_eq!(artefact.bulk_memory_operations, 1);
    }

    #[test]
    fn the_size_limit_is_exclusive() {
        let mut artefact = whole(&ENVOY);
        artefact.size = SIZE_LIMIT;
        assert_eq!(artefact.faults(&ENVOY), [format!("has {SIZE_LIMIT} bytes, the limit is {SIZE_LIMIT}")]);
    }

    #[test]
    fn bytes_that_are_no_module_are_refused() {
        assert_eq!(inspect(&ENVOY, b"not wasm").unwrap_err().to_string(), "not a WebAssembly module");
    }
}
