//! The parts of the hypervisor that do not need EL2: they are built and tested on any machine.
//!
//! The image (`main.rs`) puts them together with what does. The folders `exits`, `sched`, `vcpu` and `vm` hold files of
//! both: `mod.rs` and what it declares are the image's, what is declared here is the library's.

#![cfg_attr(not(test), no_std)]

pub mod backtrace;
pub mod compaction;
pub mod features;
pub mod flush;
pub mod frames;
pub mod masked;
pub mod memory;
pub mod output;
pub mod speculation;
pub mod tlbi;
pub mod vgic;

pub use bootargs;

// Locks serve whoever came first: a guest that has one taken again and again keeps no other CPU waiting for longer
// than it takes those that came before. The other kind that `spin` has is smaller.
const _: () = assert!(size_of::<spin::Mutex<()>>() == size_of::<spin::mutex::TicketMutex<()>>());

/// What of the dispatch of exits needs no EL2.
pub mod exits {
    pub mod halt;
    pub mod load_store;
    pub mod pstate;
    pub mod stage1;
    pub mod syndrome;
    pub mod system_error;
}

/// What of the scheduler needs no EL2.
pub mod sched {
    pub mod park;
    pub mod queue;
    pub mod slice;
}

/// What of virtual CPUs needs no EL2.
pub mod vcpu {
    pub mod debug_aarch32;
    pub mod debug_registers;
    pub mod wait;
}

/// What of virtual machines needs no EL2.
pub mod vm {
    pub mod archive;
    pub mod chips;
    pub mod device_tree;
    pub mod elf;
    pub mod flash;
    pub mod fw_cfg;
    pub mod gate;
    pub mod image;
    pub mod keys;
    pub mod layout;
    pub mod lines;
    pub mod machine;
    pub mod manifest;
    pub mod pl011;
    pub mod pl031;
    pub mod power;
    pub mod psci;
    pub mod ratelimit;
    pub mod setup;
    pub mod shortage;
    pub mod table_calls;
    pub mod virtio;
}
