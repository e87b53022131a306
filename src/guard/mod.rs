//! The guard room: size caps, path containment, and escaping for each output format.
//!
//! Every file that a user, a package or a data set names is read through this room, and every text that came from
//! outside leaves the program through one of its escapers. It must not know what the bytes mean.

pub mod escape;
pub mod files;
pub mod hub_cache;
