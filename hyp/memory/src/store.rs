//! Storing into guests' memory from outside: what a boot loader does before it jumps to a kernel.
//!
//! Whole 2 MiB regions are written to frames that nobody else can see yet and mapped as blocks,
//! unless the policy is against blocks; everything else page by page. No vCPU of the VM runs
//! meanwhile, so nothing here competes with a guest.

use super::env::{Hardware, Parts};
use super::fault::{Fault, FaultKind, Outcome};
use super::guest::{GuestMemory, outcome_of};
use bootargs::HugePolicy;
use frames::{Fill, LinearMap};
use stage2::{
    Access, Attributes, DirtyState, EntryKind, Ipa, IpaRange, Level, PAGE_SIZE, Pa, Rights,
};

impl<P: Parts> GuestMemory<'_, P> {
    /// Stores `bytes` at `ipa`: for a VM that does not run yet.
    ///
    /// # Errors
    ///
    /// [`Outcome::Outside`] where it is no RAM, [`Outcome::OutOfMemory`] where no frame was left;
    /// what lies before that was stored.
    pub fn write(&self, ipa: Ipa, bytes: &[u8]) -> Result<(), Outcome> {
        let (mut at, mut rest) = (ipa, bytes);
        while !rest.is_empty() {
            let block = rest.split_at_checked(Level::L2.size() as usize);
            let (done, later) = match block {
                Some((now, later)) if self.write_block(at, now) => (now, later),
                _ => {
                    let offset = (at.get() % PAGE_SIZE) as usize;
                    let (now, later) = rest.split_at(rest.len().min(PAGE_SIZE as usize - offset));
                    self.write_page(at, now)?;
                    (now, later)
                }
            };
            (at, rest) = (at.offset(done.len() as u64), later);
        }
        Ok(())
    }

    /// Stores `bytes` where no RAM is, from the page at `ipa` on, for the guest to read and fetch
    /// only: for a VM that does not run yet.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn write_rom(&self, ipa: Ipa, bytes: &[u8]) -> Result<(), Outcome> {
        let attributes = Attributes {
            rights: Rights::READ_EXECUTE,
            ..Attributes::RAM
        };
        for (index, bytes) in (0..).zip(bytes.chunks(PAGE_SIZE as usize)) {
            let ipa = ipa.offset(index * PAGE_SIZE);
            let page = self.alloc_page(ipa).map_err(|_| Outcome::OutOfMemory)?;
            self.copy_to(page.pa(), 0, bytes);
            let mapped = self
                .stage2()
                .map_page(ipa, page, attributes, DirtyState::Dirty);
            if let Err(reason) = self.given_back(mapped) {
                return Err(outcome_of(ipa, Err(reason)));
            }
        }
        Ok(())
    }

    /// Stores 2 MiB as a block; says whether that could be done. Nothing has changed if not.
    fn write_block(&self, ipa: Ipa, bytes: &[u8]) -> bool {
        let region = IpaRange::entry(ipa, Level::L2);
        let fits = region.start() == ipa && self.ram().covers(&region);
        if !fits || self.settings.huge == HugePolicy::Never {
            return false;
        }
        let machine = self.machine();
        let allocated = machine.alloc_for(self.vm(), ipa, Level::L2, Fill::Dirty);
        let Ok(block) = allocated else {
            return false;
        };
        for (page, bytes) in (0..).zip(bytes.chunks(PAGE_SIZE as usize)) {
            self.copy_to(block.pa().offset(page * PAGE_SIZE), 0, bytes);
        }
        let mapped = self
            .stage2()
            .map_block(ipa, block, Attributes::RAM, DirtyState::Dirty);
        self.given_back(mapped).is_ok()
    }

    /// Stores bytes that lie in one page.
    fn write_page(&self, ipa: Ipa, bytes: &[u8]) -> Result<(), Outcome> {
        let page = self.populated(ipa)?;
        self.copy_to(page, (ipa.get() % PAGE_SIZE) as usize, bytes);
        Ok(())
    }

    /// Copies bytes to a frame of this VM, at `offset` bytes into it, behind which they fit. Lets
    /// others run first if they have waited long enough: images are large, and a guest that resets
    /// has its own copied again as often as it likes.
    fn copy_to(&self, page: Pa, offset: usize, bytes: &[u8]) {
        self.machine().cond_resched();
        let target = self.machine().allocator().map().pointer(page);
        // SAFETY: the page is a frame of this VM, RAM that the linear map makes writable; the bytes
        // fit into it behind the offset; nobody else uses it, since the VM does not run yet.
        unsafe {
            let target = target.add(offset).as_ptr();
            target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        self.machine().hardware().after_writing(page);
    }

    /// The frame of the page at `ipa`, mapped if it was not.
    fn populated(&self, ipa: Ipa) -> Result<Pa, Outcome> {
        loop {
            let level = match self.stage2().query(ipa) {
                Some(entry) => match entry.kind() {
                    EntryKind::Leaf(pa) => {
                        let within = ipa.get() & (entry.level.size() - 1) & !(PAGE_SIZE - 1);
                        return Ok(pa.offset(within));
                    }
                    _ => entry.level,
                },
                None => return Err(Outcome::Outside),
            };
            let kind = FaultKind::Translation(level);
            match self.fault(Fault {
                ipa,
                access: Access::Write,
                kind,
            }) {
                Outcome::Resume => {}
                Outcome::Busy => self.machine().yield_now(),
                failed => return Err(failed),
            }
        }
    }
}
