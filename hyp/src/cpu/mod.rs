//! What the CPUs have, and what they need against attacks by speculation: decided on each of them
//! while they come up, and fixed when all are up.

pub(crate) mod features;
pub(crate) mod speculation;

pub(crate) use features::{cache_type, features, id_registers, ids_of_this_cpu};
