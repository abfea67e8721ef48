//! What `ESR_EL2` says of a data or instruction abort from a guest, and where it was (Arm ARM,
//! `ESR_EL2`, `HPFAR_EL2`).

use crate::addr::{Ipa, Level, PAGE_SIZE};
use crate::descriptor::Privilege;
use crate::fault::Access;
use bitflags::bitflags;

/// What a stage-2 abort was caused by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No valid descriptor translates the IPA: the walk stopped at this level.
    Translation(Level),
    /// The descriptor's access flag is clear.
    AccessFlag,
    /// The descriptor forbids the access.
    Permission,
    /// The TLB holds several translations of the address (FEAT_BBM allows that for a moment).
    Conflict,
    /// An external abort, an address size fault, ...: nothing that can be mended.
    Other,
}

bitflags! {
    /// The syndrome of a data or instruction abort (`ESR_EL2.ISS`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Abort: u64 {
        /// DFSC or IFSC: the fault status code.
        const STATUS = 0x3f;
        /// WnR: a write made it. See [`Abort::access`].
        const WRITE = 1 << 6;
        /// S1PTW: the fault was on the access of a stage-1 walk.
        const STAGE1_WALK = 1 << 7;
        /// CM: a cache maintenance instruction made it.
        const CACHE_MAINTENANCE = 1 << 8;
        /// FnV: `FAR_EL2` does not hold the address.
        const FAR_NOT_VALID = 1 << 10;
        /// SF: the register is 64 bits wide.
        const SIXTY_FOUR = 1 << 15;
        /// SRT: the register's number.
        const REGISTER = 0x1f << 16;
        /// SSE: a load extends the sign.
        const SIGN_EXTEND = 1 << 21;
        /// SAS: binary logarithm of the size in bytes.
        const SIZE = 0x3 << 22;
        /// ISV: SAS, SSE, SRT and SF are valid.
        const SYNDROME_VALID = 1 << 24;
    }
}

impl Abort {
    /// The syndrome in a value of `ESR_EL2`.
    pub const fn new(esr: u64) -> Self {
        Self::from_bits_retain(esr & 0x1ff_ffff)
    }

    /// What caused it. The low bits of the status are the level.
    pub const fn cause(self) -> Cause {
        let status = self.bits() & Self::STATUS.bits();
        match status {
            0x04..=0x07 => Cause::Translation(self.level()),
            0x08..=0x0b => Cause::AccessFlag,
            0x0c..=0x0f => Cause::Permission,
            0x30 => Cause::Conflict,
            _ => Cause::Other,
        }
    }

    /// Whether the cause is that no valid descriptor translates the IPA.
    #[inline]
    pub const fn is_translation(self) -> bool {
        self.bits() & Self::STATUS.bits() & !3 == 0x04
    }

    /// The level of the table whose entry was in the way, for causes that are about one.
    #[inline]
    pub const fn level(self) -> Level {
        match self.bits() & 3 {
            0 => Level::L0,
            1 => Level::L1,
            2 => Level::L2,
            _ => Level::L3,
        }
    }

    /// What the guest needs of the memory; `fetch` is the level at which it fetched, if it is an
    /// instruction abort.
    ///
    /// A walk reads the guest's tables, and if reading was not the trouble it wants to set a flag
    /// in them. A cache maintenance instruction is reported as a write (Arm ARM, `ESR_EL2`, WnR).
    /// Most need no more than a valid mapping, but DC IVAC needs the right to store: where a
    /// permission was the trouble it was that one, or the instruction will never be allowed.
    #[inline]
    pub fn access(self, fetch: Option<Privilege>) -> Access {
        if self.intersects(Self::STAGE1_WALK.union(Self::CACHE_MAINTENANCE)) {
            return self.access_of_walk_or_maintenance();
        }
        match fetch {
            Some(level) => Access::Execute(level),
            None if self.contains(Self::WRITE) => Access::Write,
            None => Access::Read,
        }
    }

    // Apart, so that loads and stores do not pay for the rest.
    #[cold]
    #[inline(never)]
    fn access_of_walk_or_maintenance(self) -> Access {
        match self.cause() {
            Cause::Permission if self.contains(Self::STAGE1_WALK) => Access::Update,
            Cause::Permission => Access::Write,
            _ => Access::Read,
        }
    }

    /// Whether a cache maintenance instruction made it, by the address that it was given.
    pub const fn is_maintenance(self) -> bool {
        self.contains(Self::CACHE_MAINTENANCE) && !self.contains(Self::STAGE1_WALK)
    }

    /// Whether `HPFAR_EL2` holds the page of the address that stage 2 did not translate, or not as
    /// the access wanted it. Some CPUs do not set it for a permission fault of the access itself:
    /// then the guest's own tables have to be asked, by AT S1E1R with the guest's registers loaded
    /// (which has to be recovered from where a table of the guest's cannot be read), or in
    /// software.
    #[inline]
    pub const fn is_reported(self) -> bool {
        !matches!(self.cause(), Cause::Permission) || self.contains(Self::STAGE1_WALK)
    }

    /// The guest physical address of the fault, from `HPFAR_EL2` and `FAR_EL2`, where it [is
    /// reported](Self::is_reported).
    ///
    /// On the access of a stage-1 walk it is the first of the page: `FAR_EL2` holds the address
    /// that was being translated, not that of the guest's table.
    #[inline]
    pub const fn reported_ipa(self, hpfar: u64, far: u64) -> Ipa {
        let page = page_of(hpfar).get();
        if self.contains(Self::STAGE1_WALK) {
            Ipa::new(page)
        } else {
            Ipa::new(page | far & (PAGE_SIZE - 1))
        }
    }

    /// The page that `HPFAR_EL2` names, where the address is reported.
    #[inline]
    pub const fn reported_page(hpfar: u64) -> Ipa {
        page_of(hpfar)
    }
}

/// HPFAR_EL2.FIPA: bits 51:12 of the address.
const HPFAR_PAGE: u64 = 0xfff_ffff_fff0;

#[inline]
const fn page_of(hpfar: u64) -> Ipa {
    Ipa::new((hpfar & HPFAR_PAGE) << 8)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_apart() {
        assert_eq!(Abort::new(0x04).cause(), Cause::Translation(Level::L0));
        assert_eq!(Abort::new(0x06).cause(), Cause::Translation(Level::L2));
        for level in 0..4 {
            assert_eq!(Abort::new(0x08 | level).cause(), Cause::AccessFlag);
            assert_eq!(Abort::new(0x0c | level).cause(), Cause::Permission);
        }
        assert_eq!(Abort::new(0x30).cause(), Cause::Conflict);
        for other in [0x00, 0x10, 0x15, 0x21, 0x31] {
            assert_eq!(Abort::new(other).cause(), Cause::Other);
        }
        for level in [Privilege::User, Privilege::Kernel] {
            let fetch = Abort::new(0x07).access(Some(level));
            assert_eq!(fetch, Access::Execute(level));
        }
        let walk = 1 << 7;
        let by = Some(Privilege::Kernel);
        assert_eq!(Abort::new(walk | 0x07).access(by), Access::Read);
        assert_eq!(Abort::new(walk | 0x0f).access(None), Access::Update);
        let maintenance = Abort::new(1 << 8 | 1 << 6 | 0x07);
        assert_eq!(maintenance.access(None), Access::Read);
        assert!(maintenance.is_maintenance() && !Abort::new(1 << 6 | 0x07).is_maintenance());
        assert!(!Abort::new(1 << 8 | walk | 0x07).is_maintenance());
    }

    /// Bits 51:12 from HPFAR_EL2, the rest from FAR_EL2 unless that is of another address.
    #[test]
    fn an_address_comes_from_two_registers() {
        let (hpfar, far) = (0x80_4020, 0xffff_8000_1234_5678);
        assert_eq!(Abort::reported_page(hpfar).get() >> 12, hpfar >> 4);
        let access = Abort::new(0x07);
        assert!(access.is_reported());
        let ipa = access.reported_ipa(hpfar, far);
        assert_eq!(ipa.get() & 0xfff, 0x678);
        assert_eq!(ipa.align_down(Level::L3), Abort::reported_page(hpfar));
        let walk = Abort::new(0x07) | Abort::STAGE1_WALK;
        assert_eq!(walk.reported_ipa(hpfar, far), Abort::reported_page(hpfar));
        assert!(!Abort::new(0x0f).is_reported());
        assert!((Abort::new(0x0f) | Abort::STAGE1_WALK).is_reported());
    }
}
