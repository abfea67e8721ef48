//! The hardware's ID registers, read once and filtered for guests.

use core::arch::asm;

use hyp::vcpu::id_registers::{self, COUNT};
use spin::Once;

/// What guests read, indexed by [`id_registers::index`].
static VALUES: Once<[u64; COUNT]> = Once::new();

/// What a guest reads from the ID register Op0 3, Op1 0, CRn 0, `crm` (1 to 7), `op2` (0 to 7).
pub(crate) fn id_register(crm: u32, op2: u32) -> u64 {
    let values = VALUES.call_once(read_all);
    values
        .get(id_registers::index(crm, op2))
        .copied()
        .unwrap_or(0)
}

/// Reads registers by CRm and Op2 into the table, filtered.
macro_rules! read {
    ($values:ident: $($crm:literal)*) => {
        $(read!($values, $crm: 0 1 2 3 4 5 6 7);)*
    };
    ($values:ident, $crm:literal: $($op2:literal)*) => {
        $({
            let raw: u64;
            // SAFETY: The whole space can be read at EL2 and is zero where nothing is defined.
            unsafe {
                asm!(
                    concat!("mrs {}, s3_0_c0_c", $crm, "_", $op2),
                    out(reg) raw,
                    options(nomem, nostack, preserves_flags),
                );
            }
            let index = id_registers::index($crm, $op2);
            $values[index] = id_registers::guest_value(index, raw);
        })*
    };
}

fn read_all() -> [u64; COUNT] {
    let mut values = [0; COUNT];
    read!(values: 1 2 3 4 5 6 7);
    values
}
