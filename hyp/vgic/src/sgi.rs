//! Software-generated interrupts: the registers with which vCPUs interrupt each other.
//!
//! The hardware traps writes to them; their format is the same for all (Arm IHI 0069, 12.2.
//! ICC_SGI1R_EL1).

use super::block::Register;
use super::{VcpuSet, Vgic};
use bootargs::MAX_VCPUS;

/// Which register was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiRegister {
    /// `ICC_SGI0R_EL1` and, as there is but one Security state, `ICC_ASGI1R_EL1`: reach SGIs that
    /// the receiver has in Group 0.
    Group0,
    /// `ICC_SGI1R_EL1`: reaches SGIs of either group.
    Group1,
}

/// `IRM`: all vCPUs but the sender.
const ALL_OTHERS: u64 = 1 << 40;
/// The affinity fields Aff3, Aff2 and Aff1, and `RS`, the range of Aff0. All vCPUs have zeros
/// there.
const HIGH_AFFINITY: u64 = 0xff << 48 | 0xf << 44 | 0xff << 32 | 0xff << 16;

impl Vgic {
    /// vCPU `sender` writes `value` to an SGI register. Returns the vCPUs that are concerned.
    pub fn send_sgi(&mut self, sender: usize, register: SgiRegister, value: u64) -> VcpuSet {
        let sgi = 1 << (value >> 24 & 0xf);
        let mut concerned = VcpuSet::EMPTY;
        for vcpu in receivers(sender, value).filter(|&vcpu| vcpu < self.vcpus) {
            let block = &mut self.private[vcpu].block;
            let reaches = register == SgiRegister::Group1 || block.group1 & sgi == 0;
            if reaches && block.write(Register::SetPending, sgi) != 0 {
                concerned = concerned.with(Some(vcpu));
            }
        }
        concerned
    }
}

/// The numbers that a value names, whether there are such vCPUs or not.
fn receivers(sender: usize, value: u64) -> impl Iterator<Item = usize> {
    let list = value & 0xffff;
    (0..MAX_VCPUS).filter(move |&vcpu| {
        if value & ALL_OTHERS != 0 {
            vcpu != sender
        } else {
            value & HIGH_AFFINITY == 0 && list >> vcpu & 1 == 1
        }
    })
}
