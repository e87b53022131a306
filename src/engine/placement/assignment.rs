//! The assignment of nodes to providers, as ONNX Runtime's partitioner made it.
#![allow(
    unsafe_code,
    reason = "`ort` has no safe call for this part of ONNX Runtime's C interface (since 1.24): pointers that the session owns are \
              read and copied while it is borrowed"
)]

use std::ffi::{CStr, c_char};

use ort::AsPointer;
use ort::session::Session;
use ort::sys::{OrtEpAssignedNode, OrtEpAssignedSubgraph, OrtStatusPtr};

/// A node and what runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AssignedNode {
    /// Its name; may be empty.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// Its provider, in ONNX Runtime's words.
    pub provider: String,
}

/// All nodes of a session that was made with [`RECORD_ASSIGNMENT`](super::RECORD_ASSIGNMENT) set to 1, those of subgraphs
/// included. An error is ONNX Runtime's own words.
pub(super) fn of_session(session: &Session) -> Result<Vec<AssignedNode>, String> {
    let api = ort::api();
    let mut subgraphs: *const *const OrtEpAssignedSubgraph = std::ptr::null();
    let mut count = 0;
    // SAFETY: the session is alive, and both places outlive the call.
    checked(unsafe { (api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &mut subgraphs, &mut count) })?;
    let mut found = Vec::new();
    // SAFETY: ONNX Runtime gave `count` pointers, which live as long as the session.
    for &subgraph in unsafe { list(subgraphs, count) } {
        let provider = text(api.EpAssignedSubgraph_GetEpName, subgraph)?;
        let mut nodes: *const *const OrtEpAssignedNode = std::ptr::null();
        let mut count = 0;
        // SAFETY: `subgraph` is the session's, and both places outlive the call.
        checked(unsafe { (api.EpAssignedSubgraph_GetNodes)(subgraph, &mut nodes, &mut count) })?;
        // SAFETY: as above.
        for &node in unsafe { list(nodes, count) } {
            let operator = text(api.EpAssignedNode_GetOperatorType, node)?;
            let name = text(api.EpAssignedNode_GetName, node)?;
            found.push(AssignedNode { name, operator, provider: provider.clone() });
        }
    }
    Ok(found)
}

fn checked(status: OrtStatusPtr) -> Result<(), String> {
    // SAFETY: the status was just given by ONNX Runtime, and is given back here once.
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| error.message().to_owned())
}

/// A list of pointers that ONNX Runtime gave; none if it is empty.
///
/// # Safety
/// `first` must point to `count` pointers that live for `'a`, or `count` be 0.
unsafe fn list<'a, T>(first: *const *const T, count: usize) -> &'a [*const T] {
    if first.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(first, count) }
}

/// A text about `of`, copied.
fn text<T>(
    read: unsafe extern "system" fn(*const T, *mut *const c_char) -> OrtStatusPtr,
    of: *const T,
) -> Result<String, String> {
    if of.is_null() {
        return Err("ONNX Runtime gave no node where it counted one".to_owned());
    }
    let mut start: *const c_char = std::ptr::null();
    // SAFETY: `of` comes from a list of the session's, and the place outlives the call.
    checked(unsafe { read(of, &mut start) })?;
    if start.is_null() {
        return Ok(String::new());
    }
    // SAFETY: ONNX Runtime gives a text that ends in a zero byte and lives as long as the session.
    Ok(unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned())
}
