//! What is measured: each row with where its figure comes from, what others were measured to take
//! for the same, and what we allow ourselves.

/// A boot of the guest `touch`, by the policy for 2 MiB frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boot {
    /// Guest memory is mapped by 4 KiB pages.
    Pages,
    /// Guest memory is mapped by 2 MiB blocks.
    Blocks,
    /// Guest memory is mapped by 4 KiB pages, out of 2 MiB frames that are set aside: the default.
    Reserved,
    /// Guest memory is mapped by 4 KiB pages, of which the compaction thread makes 2 MiB blocks.
    Compacted,
}

impl Boot {
    pub(super) const ALL: [Self; 4] = [Self::Pages, Self::Blocks, Self::Reserved, Self::Compacted];

    /// The policy: the value of the boot argument `huge`.
    pub(super) const fn policy(self) -> &'static str {
        match self {
            Self::Pages | Self::Compacted => "never",
            Self::Blocks => "always",
            Self::Reserved => "reserve",
        }
    }

    /// The hypervisor's boot arguments, with nothing done against attacks by speculation.
    pub(super) fn hyp_args(self) -> String {
        self.hyp_args_with("off")
    }

    /// The hypervisor's boot arguments, with this value of `mitigations`. But for
    /// [`Self::Compacted`] no compaction: nothing else runs. The second vCPU is off but for the
    /// rows in which two take turns.
    pub(super) fn hyp_args_with(self, mitigations: &str) -> String {
        let policy = self.policy();
        let compaction = match self {
            Self::Compacted => "compaction-period=1",
            _ => "compaction=off vcpus=2 table-calls=on",
        };
        format!("huge={policy} {compaction} guest-memory=256M mitigations={mitigations}")
    }
}

/// Instructions that other hypervisors took, measured with the same kind of guest in the same
/// emulator; none where they have no such case, or it was not measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peers {
    /// KVM of Linux 6.12 on `cortex-a57`.
    pub(super) kvm_a57: Option<u32>,
    /// KVM of Linux 6.12 on `max`, where it uses FEAT_VHE.
    pub(super) kvm_max: Option<u32>,
    /// Xen 4.17 on `cortex-a57`.
    pub(super) xen_a57: Option<u32>,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name in JSON.
    pub(super) key: &'static str,
    /// Its name for a person.
    pub(super) text: &'static str,
    /// The boot that it comes from.
    pub(super) boot: Boot,
    /// The guest's row.
    pub(super) line: &'static str,
    /// What the guest's figure is divided by.
    pub(super) parts: f64,
    /// What others take.
    pub(super) peers: Peers,
    /// The most that it may take.
    pub(super) limit: Option<u32>,
}

const NO_PEERS: Peers = peers(None, None, None);

const fn peers(kvm_max: Option<u32>, kvm_a57: Option<u32>, xen_a57: Option<u32>) -> Peers {
    Peers {
        kvm_a57,
        kvm_max,
        xen_a57,
    }
}

/// A row that is the guest's as it stands.
const fn row(
    key: &'static str,
    text: &'static str,
    boot: Boot,
    line: &'static str,
    peers: Peers,
    limit: Option<u32>,
) -> Row {
    Row {
        key,
        text,
        boot,
        line,
        parts: 1.0,
        peers,
        limit,
    }
}

/// All rows, in the order in which they are shown.
pub(super) const ROWS: [Row; 33] = [
    row(
        "hvc",
        "HVC, PSCI_VERSION",
        Boot::Pages,
        "hvc",
        peers(Some(1283), Some(1738), Some(474)),
        Some(110),
    ),
    row(
        "id_register",
        "trapped ID register, read",
        Boot::Pages,
        "id_register",
        peers(Some(1586), Some(2033), Some(434)),
        Some(140),
    ),
    row(
        "gicd_typer",
        "GICD_TYPER, load",
        Boot::Pages,
        "gicd_typer",
        peers(Some(2040), Some(2466), Some(613)),
        Some(220),
    ),
    row(
        "pl011_store",
        "PL011, store",
        Boot::Pages,
        "pl011_store",
        peers(None, None, Some(638)),
        Some(300),
    ),
    row(
        "pl011_load",
        "PL011, load",
        Boot::Pages,
        "pl011_load",
        NO_PEERS,
        None,
    ),
    row(
        "fault_4k_ready",
        "store to a new 4 KiB page, frame zeroed ahead",
        Boot::Pages,
        "store_4k_ready",
        peers(Some(4482), Some(5104), None),
        Some(400),
    ),
    row(
        "fault_4k",
        "store to a new 4 KiB page",
        Boot::Pages,
        "store_4k",
        peers(Some(8392), Some(9043), None),
        Some(600),
    ),
    row(
        "fault_4k_load",
        "load from a new 4 KiB page",
        Boot::Pages,
        "load_4k",
        NO_PEERS,
        None,
    ),
    own("fault_4k_fetch", "fetch from a new 4 KiB page", "fetch_4k"),
    row(
        "fault_4k_reserve",
        "store to a new 4 KiB page",
        Boot::Reserved,
        "store_4k",
        peers(Some(8392), Some(9043), None),
        Some(600),
    ),
    row(
        "fault_4k_load_reserve",
        "load from a new 4 KiB page",
        Boot::Reserved,
        "load_4k",
        NO_PEERS,
        Some(600),
    ),
    row(
        "fault_4k_fetch_reserve",
        "fetch from a new 4 KiB page",
        Boot::Reserved,
        "fetch_4k",
        NO_PEERS,
        Some(600),
    ),
    own("allocate", "  of that: a frame is allocated", "allocate"),
    own("zero", "  of that: the frame is zeroed", "zero"),
    row(
        "fault_2m_ready",
        "store to a new 2 MiB block, zeroed ahead",
        Boot::Blocks,
        "store_2m_ready",
        peers(Some(4115), Some(135_914), None),
        Some(500),
    ),
    row(
        "fault_2m",
        "store to a new 2 MiB block, 2 MiB to be zeroed",
        Boot::Blocks,
        "store_2m",
        NO_PEERS,
        None,
    ),
    own(
        "fault_busy",
        "store to a page that is being moved",
        "fault_busy",
    ),
    row(
        "dirty_fault_4k",
        "dirty logging: first store to a 4 KiB page",
        Boot::Pages,
        "dirty_fault_4k",
        peers(Some(3340), Some(3910), None),
        Some(350),
    ),
    row(
        "dirty_split_2m",
        "dirty logging: first store to a 2 MiB block",
        Boot::Blocks,
        "dirty_split_2m",
        peers(Some(4091), Some(4926), None),
        Some(1500),
    ),
    own(
        "write_protect_4k",
        "dirty logging: beginning it, per page",
        "write_protect",
    ),
    own(
        "dirty_collect_4k",
        "dirty logging: collecting, per page written",
        "dirty_collect",
    ),
    Row {
        parts: 512.0,
        ..row(
            "unmap_4k",
            "unmapping and freeing, per 4 KiB page",
            Boot::Pages,
            "release_2m",
            peers(Some(154), Some(656), None),
            Some(40),
        )
    },
    row(
        "unmap_2m",
        "unmapping and freeing a 2 MiB block",
        Boot::Blocks,
        "release_2m",
        NO_PEERS,
        None,
    ),
    own("split_2m", "split of a 2 MiB block", "split"),
    own(
        "collapse_in_place",
        "collapse to 2 MiB, in place",
        "collapse_in_place",
    ),
    own(
        "collapse_copy",
        "collapse to 2 MiB, by copying",
        "collapse_copy",
    ),
    own(
        "collapse_held_up",
        "  longest hold-up of a store meanwhile",
        "collapse_held_up",
    ),
    Row {
        parts: 1.0 / 8.0,
        ..own(
            "copy_8_pages",
            "  8 pages copied, which that is to be below",
            "copy",
        )
    },
    own("move_4k", "move of a 4 KiB page", "move"),
    own("grace_period", "grace period", "grace"),
    own("vcpu_switch", "switch between two vCPUs", "vcpu_switch"),
    row(
        "late_store",
        "longest wait of an interrupt, 2 MiB being zeroed",
        Boot::Blocks,
        "late_store",
        NO_PEERS,
        Some(10_000),
    ),
    row(
        "late_wait",
        "longest wait of an interrupt, beside compaction",
        Boot::Compacted,
        "late_wait",
        NO_PEERS,
        Some(40_000),
    ),
];

/// A row for which others have no figure, and we no limit.
const fn own(key: &'static str, text: &'static str, line: &'static str) -> Row {
    row(key, text, Boot::Pages, line, NO_PEERS, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_differ() {
        let keys: BTreeSet<_> = ROWS.iter().map(|row| row.key).collect();
        assert_eq!(keys.len(), ROWS.len());
    }

    /// What the hypervisor does not understand it leaves out, and would be measured with its
    /// default.
    #[test]
    fn boot_arguments_are_understood() {
        for boot in Boot::ALL {
            bootargs::parse(&boot.hyp_args(), &mut |complaint| panic!("{complaint:?}"));
        }
    }

    #[test]
    fn limits_are_below_the_fastest_peer() {
        for row in &ROWS {
            let Peers {
                kvm_a57,
                kvm_max,
                xen_a57,
            } = row.peers;
            let fastest = [kvm_a57, kvm_max, xen_a57].into_iter().flatten().min();
            if let (Some(limit), Some(fastest)) = (row.limit, fastest) {
                assert!(limit < fastest, "{}", row.key);
            }
        }
    }
}
