//! Header maps as the host hands them over: one buffer, read in place.
//!
//! The SDK's own getter copies every name and value and dies of a name that is not text. Most requests are
//! answered from a few header lines, so those copies would be a good part of what an answer costs.

use proxy_wasm::types::{MapType, Status};

/// A map, as it was when it was read.
pub(crate) struct HeaderMap(Vec<u8>);

/// The one call into the host that does not go by way of the SDK.
#[allow(unsafe_code, reason = "a host call is a foreign function, and it hands over memory by address")]
mod host {
    use std::ptr::null_mut;

    use proxy_wasm::types::MapType;

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        fn proxy_get_header_map_pairs(map: MapType, data: *mut *mut u8, size: *mut usize) -> u32;
    }

    /// The serialized map, or the status of the refusal (proxy-wasm ABI 0.2.1).
    pub(super) fn header_map(map: MapType) -> Result<Vec<u8>, u32> {
        let (mut data, mut size): (*mut u8, usize) = (null_mut(), 0);
        // SAFETY: the host writes an address and a size to the two places, which outlive the call.
        let status = unsafe { proxy_get_header_map_pairs(map, &raw mut data, &raw mut size) };
        if status != 0 {
            return Err(status);
        }
        if data.is_null() {
            return Ok(Vec::new());
        }
        // SAFETY: the host got this memory from `proxy_on_memory_allocate`, which is the SDK's: a `Vec<u8>`
        // of this capacity that was forgotten. The host has filled all of it and kept no reference.
        Ok(unsafe { Vec::from_raw_parts(data, size, size) })
    }
}

// === impl HeaderMap ===

impl HeaderMap {
    /// Reads a map. Only in its own phase: elsewhere Envoy kills the VM.
    pub(crate) fn read(map: MapType) -> Result<Self, Status> {
        host::header_map(map).map(Self).map_err(|_| Status::InternalFailure)
    }

    /// Every line in order. A map that breaks the host's own format is an error, and so is a name that is not
    /// text: leaving a line out could hide a payment.
    pub(crate) fn lines(&self) -> Result<Vec<(&str, &[u8])>, Status> {
        self.parse().ok_or(Status::ParseFailure)
    }

    /// Little-endian u32: how many pairs, then two lengths for each; then each name and value, each followed
    /// by a zero byte.
    fn parse(&self) -> Option<Vec<(&str, &[u8])>> {
        if self.0.is_empty() {
            return Some(Vec::new());
        }
        let (count, rest) = self.0.split_first_chunk()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        let (sizes, mut texts) = rest.split_at_checked(count.checked_mul(8)?)?;
        let mut take = |size: &[u8; 4]| {
            let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
            let (text, after) = texts.split_at_checked(size)?;
            texts = after.strip_prefix(&[0])?;
            Some(text)
        };
        let mut lines = Vec::with_capacity(count);
        for pair in sizes.as_chunks::<4>().0.as_chunks::<2>().0 {
            let [name, value] = pair;
            lines.push((core::str::from_utf8(take(name)?).ok()?, take(value)?));
        }
        Some(lines)
    }
}
