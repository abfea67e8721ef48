//! What the small fields of events mean.

use crate::byte_enum::byte_enum;

byte_enum! {
    /// What the guest was doing when it faulted.
    Access {
        /// A load, or a walk of the guest's own tables.
        Read = 0 => "read",
        /// A store.
        Write = 1 => "write",
        /// An instruction fetch.
        Execute = 2 => "execute",
    }
}

byte_enum! {
    /// Why a stage-2 fault was taken.
    Cause {
        /// Nothing is mapped.
        Translation = 0 => "translation",
        /// A mark or a right is missing.
        Permission = 1 => "permission",
    }
}

byte_enum! {
    /// What became of a fault.
    Outcome {
        /// The guest tries again.
        Resume = 0 => "resolved",
        /// Another operation works on the region; the guest tries again later.
        Busy = 1 => "busy",
        /// No memory is there.
        Outside = 2 => "outside memory",
        /// No frame was left.
        OutOfMemory = 3 => "out of memory",
        /// The hypervisor has made a mistake.
        Mistake = 4 => "a mistake",
    }
}

byte_enum! {
    /// Why nothing was mapped, or a collapse was given up.
    Reason {
        /// Something is mapped there already.
        Occupied = 0 => "occupied",
        /// Another operation works on the region.
        Busy = 1 => "busy",
        /// No frame was left for a table.
        OutOfFrames = 2 => "out of frames",
        /// The request makes no sense: address, alignment or rights.
        Invalid = 3 => "invalid",
        /// There is no table to collapse.
        NoTable = 4 => "no table",
        /// Too many entries are empty.
        TooEmpty = 5 => "too empty",
        /// Entries differ in their attributes.
        Mixed = 6 => "mixed",
        /// The frames do not lie in order.
        Scattered = 7 => "scattered",
        /// The guest writes too much of it.
        Hot = 8 => "hot",
        /// Another collapse of it is under way.
        Claimed = 9 => "claimed",
        /// A page must keep its frame.
        Pinned = 10 => "pinned",
    }
}

byte_enum! {
    /// How far a collapse has come.
    Step {
        /// It was begun.
        Begin = 0 => "begin",
        /// Its pages were copied while the guest ran.
        Copy = 1 => "copy",
        /// The block is made.
        Commit = 2 => "commit",
        /// It was given up; the reason says why.
        Abort = 3 => "abort",
    }
}

byte_enum! {
    /// What a marker stands for.
    Operation {
        /// A collapse.
        Collapse = 0 => "collapse",
        /// A split.
        Split = 1 => "split",
        /// A move of one page.
        Migrate = 2 => "migrate",
        /// A table taken away.
        FreeTable = 3 => "free table",
        /// Something else.
        Other = 4 => "other",
    }
}

byte_enum! {
    /// What an invalidation had to reach.
    Reach {
        /// Leaves of the level.
        Leaf = 0 => "leaf",
        /// Leaves of all levels.
        Leaves = 1 => "leaves",
        /// Leaves and tables.
        Tables = 2 => "tables",
    }
}

byte_enum! {
    /// Why a vCPU left the guest.
    Exit {
        /// A hypercall or firmware call.
        Call = 0 => "call",
        /// A stage-2 abort.
        Abort = 1 => "abort",
        /// A trapped system register.
        Register = 2 => "register",
        /// A trapped wait for an interrupt or event.
        Wait = 3 => "wait",
        /// A physical interrupt.
        Interrupt = 4 => "interrupt",
        /// Something else.
        Other = 5 => "other",
    }
}

byte_enum! {
    /// How an entry was stored.
    Store {
        /// Plainly: nothing before it need be seen by who sees it.
        Plain = 0 => "plain",
        /// With release semantics, as a store or an exchange.
        Release = 1 => "release",
    }
}

byte_enum! {
    /// A barrier.
    Barrier {
        /// `dsb ishst`.
        DsbIshst = 0 => "dsb ishst",
        /// `dsb ish`.
        DsbIsh = 1 => "dsb ish",
        /// `dsb nshst`.
        DsbNshst = 2 => "dsb nshst",
        /// `dsb nsh`.
        DsbNsh = 3 => "dsb nsh",
        /// `isb`.
        Isb = 4 => "isb",
    }
}

byte_enum! {
    /// A TLBI instruction (Arm ARM, "A64 System instructions for TLB maintenance").
    Tlbi {
        /// Stage 2 by IPA, leaves and tables, all CPUs.
        Ipas2e1is = 0 => "tlbi ipas2e1is",
        /// Stage 2 by IPA, leaves, all CPUs.
        Ipas2le1is = 1 => "tlbi ipas2le1is",
        /// Stage 2 by a range of IPAs, leaves and tables, all CPUs.
        Ripas2e1is = 2 => "tlbi ripas2e1is",
        /// Stage 2 by a range of IPAs, leaves, all CPUs.
        Ripas2le1is = 3 => "tlbi ripas2le1is",
        /// Stage 1, and what was made of both stages, of a VMID, all CPUs.
        Vmalle1is = 4 => "tlbi vmalle1is",
        /// Both stages of a VMID, all CPUs.
        Vmalls12e1is = 5 => "tlbi vmalls12e1is",
        /// Both stages of all VMIDs, all CPUs.
        Alle1is = 6 => "tlbi alle1is",
        /// Stage 2 by IPA, leaves, this CPU.
        Ipas2le1 = 7 => "tlbi ipas2le1",
        /// Stage 1, and what was made of both stages, of a VMID, this CPU.
        Vmalle1 = 8 => "tlbi vmalle1",
        /// Both stages of a VMID, this CPU.
        Vmalls12e1 = 9 => "tlbi vmalls12e1",
    }
}

byte_enum! {
    /// A register that decides over stage 2.
    Register {
        /// VTTBR_EL2: the root and the VMID.
        Vttbr = 0 => "vttbr_el2",
        /// VTCR_EL2: the shape of the tables.
        Vtcr = 1 => "vtcr_el2",
    }
}

byte_enum! {
    /// How a lock was had.
    Taking {
        /// By waiting for it.
        Waited = 0 => "taken",
        /// By a try that would have been given up.
        Tried = 1 => "taken by a try",
    }
}

byte_enum! {
    /// Who has a range of physical addresses.
    Holder {
        /// Guests: their tables and their memory, or free frames for these.
        Guests = 0 => "guests'",
        /// The hypervisor, for itself: frames that it has taken out of what guests could have.
        Hypervisor = 1 => "the hypervisor's own",
        /// The hypervisor, from the start: its image.
        Image = 2 => "the hypervisor's image",
        /// Memory that nobody is given: what firmware and loader left there, and the frames'
        /// metadata.
        Kept = 3 => "kept",
        /// A device: its registers.
        Device = 4 => "a device's registers",
        /// The hypervisor, which lets one VM load and fetch from there.
        Shown = 5 => "shown",
    }
}
