//! One VM's memory.
//!
//! Owns [`GuestMemory`]: the VM's tables, its RAM's range, and the policy by which a fault gets its
//! frame. The RAM is one range of IPAs, mapped on demand; a page that was never touched reads as
//! zeros.
//!
//! A fault allocates before it takes any lock, and takes one: that of the table that gets the
//! entry. When two vCPUs fault on one page, one maps it and the other gives its frame back.

use super::dirty_log::Logging;
use super::env::{Hardware, Machine, Parts};
use super::fault::{Fault, FaultKind, Outcome};
use super::page_copier::PageCopier;
use super::reserve::Reservations;
use super::tracing;
use bootargs::HugePolicy;
use core::fmt;
use frames::{Fill, Order, OutOfFrames, Run, Use, VmId};
use stage2::{
    Access, Attributes, Config, CopyPages as _, DirtyGranule, DirtyState, Format, Geometry,
    GuestFrame, Ipa, IpaRange, Level, MapError, Owner, Pa, Refused, Resolution, Rights, SplitError,
    Stage2, UnmappedRun,
};
use trace::event::Holder;

/// Bytes that are mapped ahead before others get their turn: that of 16 pages, each of which is
/// zeroed.
const FILLED_AT_ONCE: u64 = 16 * stage2::PAGE_SIZE;

/// What a VM's memory is like.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The VM, in the reverse map.
    pub vm: VmId,
    /// Its RAM.
    pub ram: IpaRange,
    /// How faults use 2 MiB frames.
    pub huge: HugePolicy,
    /// The shape of its tables.
    pub geometry: Geometry,
    /// The descriptor format.
    pub format: Format,
    /// See [`Config::direct_size_change`].
    pub direct_size_change: bool,
    /// Whether the guest may have its own tables worked on: see [`psci::table_calls`].
    pub table_calls: bool,
}

/// Why memory was not taken back. It is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseError {
    /// No frame was left for splitting a block.
    OutOfFrames,
    /// Writes are logged, and of a page that is taken away nothing would tell that it was written.
    Logged,
}

impl From<stage2::OutOfFrames> for ReleaseError {
    fn from(_: stage2::OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

/// One VM's memory.
pub struct GuestMemory<'m, P: Parts> {
    machine: &'m Machine<P>,
    stage2: Stage2<&'m Machine<P>>,
    reservations: Reservations,
    pub(super) logging: Logging,
    pub(super) settings: Settings,
}

impl<'m, P: Parts> GuestMemory<'m, P> {
    /// Memory of which nothing is mapped yet.
    pub fn new(machine: &'m Machine<P>, settings: Settings) -> Result<Self, OutOfFrames> {
        let reservations = Reservations::new(machine, settings.vm, settings.ram)?;
        let config = Config {
            geometry: settings.geometry,
            format: settings.format,
            owner: owner(settings.vm),
            direct_size_change: settings.direct_size_change,
        };
        match Stage2::new(machine, config) {
            Ok(stage2) => Ok(Self {
                machine,
                stage2,
                reservations,
                logging: Logging::off(),
                settings,
            }),
            Err(stage2::OutOfFrames) => {
                reservations.free(machine);
                Err(OutOfFrames { order: Order::PAGE })
            }
        }
    }

    /// The tables.
    #[inline]
    pub fn stage2(&self) -> &Stage2<&'m Machine<P>> {
        &self.stage2
    }

    /// The machine.
    #[inline]
    pub fn machine(&self) -> &'m Machine<P> {
        self.machine
    }

    /// The VM, in the reverse map.
    pub fn vm(&self) -> VmId {
        self.settings.vm
    }

    /// Whether the guest may have its own tables worked on.
    pub fn allows_table_calls(&self) -> bool {
        self.settings.table_calls
    }

    /// The RAM's addresses.
    #[inline]
    pub fn ram(&self) -> IpaRange {
        self.settings.ram
    }

    /// Resolves a stage-2 fault.
    // Always inline: what a page's fault needs is in one function then, which saves registers once.
    #[inline(always)]
    pub fn fault(&self, fault: Fault) -> Outcome {
        let ipa = fault.ipa.align_down(Level::L3);
        if ipa < self.ram().start() || ipa >= self.ram().end() {
            return Outcome::Outside;
        }
        let outcome = match fault.kind {
            FaultKind::Translation(level) => self.populate(ipa, level),
            FaultKind::Mapped(level) => self.permit(ipa, fault.access, level),
        };
        match outcome {
            Outcome::OutOfMemory => self.without_memory(ipa),
            outcome => outcome,
        }
    }

    /// What is to be done when no frame was left for the page at `ipa`, or for a table above it:
    /// untouched reservations are given up, and it may be that another vCPU has mapped the page.
    #[cold]
    fn without_memory(&self, ipa: Ipa) -> Outcome {
        let mapped = self
            .stage2
            .query(ipa)
            .is_some_and(|entry| matches!(entry.kind(), stage2::EntryKind::Leaf(_)));
        if mapped || self.give_up_reservations() > 0 {
            Outcome::Resume
        } else {
            Outcome::OutOfMemory
        }
    }

    /// After a fault on something that is mapped by an entry of `level`.
    // Always inline: see `fault`.
    #[inline(always)]
    fn permit(&self, ipa: Ipa, access: Access, level: Level) -> Outcome {
        let logging = self.is_logging();
        if logging && level == Level::L2 && access.stores() {
            return self.permit_in_block(ipa);
        }
        let granule = if logging {
            DirtyGranule::Page
        } else {
            DirtyGranule::Leaf
        };
        self.resolved(ipa, self.stage2.resolve_fault(ipa, access, granule))
    }

    /// After a store under logging to what is most probably a block.
    #[inline(never)]
    fn permit_in_block(&self, ipa: Ipa) -> Outcome {
        self.split_for_store(ipa, Level::L2).unwrap_or_else(|| {
            self.resolved(
                ipa,
                self.stage2
                    .resolve_fault(ipa, Access::Write, DirtyGranule::Page),
            )
        })
    }

    #[inline(always)]
    fn resolved(&self, ipa: Ipa, resolution: Resolution) -> Outcome {
        match resolution {
            Resolution::Resolved => Outcome::Resume,
            other => self.unresolved(ipa, other),
        }
    }

    #[inline(never)]
    fn unresolved(&self, ipa: Ipa, resolution: Resolution) -> Outcome {
        match resolution {
            Resolution::Resolved | Resolution::Unmapped => Outcome::Resume,
            Resolution::Busy => Outcome::Busy,
            // RAM is mapped with all rights, and lies within the tables' addresses.
            Resolution::Denied | Resolution::OutOfRange => mistaken(ipa, &resolution),
            // Only if it was asked for. Another vCPU may have split it, too.
            Resolution::MustSplit(level) => {
                let split = self.split_for_store(ipa, level);
                split.unwrap_or(Outcome::Resume)
            }
        }
    }

    /// Splits the block for a store to the page at `ipa`; none if there is no such block.
    #[inline(always)]
    fn split_for_store(&self, ipa: Ipa, level: Level) -> Option<Outcome> {
        match self.stage2.split_for_store(ipa, level) {
            Ok(()) => Some(Outcome::Resume),
            Err(SplitError::NoBlock) => None,
            Err(SplitError::Busy) => Some(Outcome::Busy),
            Err(SplitError::OutOfFrames) => Some(self.permit_whole(ipa)),
            Err(mistake) => Some(mistaken(ipa, &mistake)),
        }
    }

    /// After a store under logging to a block for the splitting of which no frame is left: all of
    /// it counts as written, rather than that the guest stores again and again.
    #[cold]
    #[inline(never)]
    fn permit_whole(&self, ipa: Ipa) -> Outcome {
        if self.give_up_reservations() > 0 {
            return Outcome::Resume;
        }
        self.resolved(
            ipa,
            self.stage2
                .resolve_fault(ipa, Access::Write, DirtyGranule::Leaf),
        )
    }

    /// Maps memory to `ipa`, where a walk stopped at an entry of `level`.
    #[inline(always)]
    fn populate(&self, ipa: Ipa, level: Level) -> Outcome {
        let reserved = match self.settings.huge {
            HugePolicy::Always => {
                if let Ok(outcome) = self.populate_block(ipa, level) {
                    return outcome;
                }
                None
            }
            HugePolicy::Reserve => self.reservations.take(self.machine, ipa),
            HugePolicy::Never => None,
        };
        let page = match reserved {
            Some(page) => {
                PageCopier::new(self.machine).zero(page.first_page());
                page
            }
            None => match self.alloc_page(ipa) {
                Ok(page) => page,
                Err(_) => return Outcome::OutOfMemory,
            },
        };
        outcome_of(ipa, self.map_new(ipa, page))
    }

    /// Maps a zeroed frame that was meant for `ipa`, or gives it back.
    #[inline(always)]
    fn map_new(&self, ipa: Ipa, page: GuestFrame) -> Result<(), MapError> {
        let mapped = self
            .stage2
            .map_page(ipa, page, Attributes::RAM, DirtyState::Dirty);
        mapped.map_err(|Refused { reason, frame }| {
            self.reservations.give_back(self.machine, ipa, frame);
            reason
        })
    }

    /// Maps 2 MiB round `ipa` as a block. An error is whatever leads to a page instead: the region
    /// has a table already, or is not RAM as a whole, or a single page is to count as written, as
    /// under logging.
    #[inline(always)]
    fn populate_block(&self, ipa: Ipa, level: Level) -> Result<Outcome, OutOfFrames> {
        let region = IpaRange::entry(ipa, Level::L2);
        if level == Level::L3 || !self.ram().covers(&region) || self.is_logging() {
            return Err(OutOfFrames {
                order: Order::BLOCK_2M,
            });
        }
        self.map_new_block(region)
    }

    /// Zeroing the block ends early if the CPU has an interrupt to take: the guest comes again, and
    /// then finds zeroed what was until then.
    #[inline(never)]
    fn map_new_block(&self, region: IpaRange) -> Result<Outcome, OutOfFrames> {
        let ipa = region.start();
        let (allocator, hardware) = (self.machine.allocator(), self.machine.hardware());
        if !allocator.zero_block(self.machine.cpu(), || hardware.is_interrupted()) {
            return Ok(Outcome::Resume);
        }
        let block = self
            .machine
            .alloc_for(self.vm(), ipa, Level::L2, Fill::Zeroed)?;
        let mapped = self
            .stage2
            .map_block(ipa, block, Attributes::RAM, DirtyState::Dirty);
        let Err(Refused { reason, frame }) = mapped else {
            return Ok(Outcome::Resume);
        };
        self.machine.free_of_guest(frame);
        match reason {
            // A table stands there already, or there is no frame for one above.
            MapError::Occupied(_) | MapError::OutOfFrames => Err(OutOfFrames {
                order: Order::BLOCK_2M,
            }),
            reason => Ok(outcome_of(ipa, Err(reason))),
        }
    }

    /// Maps those pages of `region`, 2 MiB of RAM, that were never touched and for which the 2 MiB
    /// frame `block` is reserved, as if the guest had loaded from each. Returns how many.
    pub fn fill_up(&self, region: IpaRange, block: Pa) -> usize {
        let pages = (region.start().get()..region.end().get()).step_by(stage2::PAGE_SIZE as usize);
        let fill = |ipa: &Ipa| {
            if ipa.get().is_multiple_of(FILLED_AT_ONCE) {
                self.machine.cond_resched();
            }
            let page = self.reservations.take_from(self.machine, *ipa, block);
            page.is_some_and(|page| {
                PageCopier::new(self.machine).zero(page.first_page());
                self.map_new(*ipa, page).is_ok()
            })
        };
        pages.map(Ipa::new).filter(fill).count()
    }

    /// A zeroed frame for the page at `ipa`.
    #[inline(always)]
    pub(super) fn alloc_page(&self, ipa: Ipa) -> Result<GuestFrame, OutOfFrames> {
        self.machine
            .alloc_for(self.vm(), ipa, Level::L3, Fill::Zeroed)
    }

    /// Frees the memory that could not be mapped, if so.
    #[inline(always)]
    pub fn given_back<R>(&self, mapped: Result<(), Refused<R>>) -> Result<(), R> {
        mapped.map_err(|Refused { reason, frame }| {
            self.machine.free_of_guest(frame);
            reason
        })
    }

    /// Lets the guest see a frame that is not this memory's own at the page round `ipa`, outside of
    /// the RAM, with these rights. The frame stays the caller's, and must be there until the memory
    /// is destroyed.
    pub fn show(&self, ipa: Ipa, frame: GuestFrame, rights: Rights) -> Outcome {
        let attributes = Attributes {
            rights,
            memory: stage2::MemoryType::Normal,
            pinned: true,
        };
        let page = ipa.align_down(Level::L3);
        let vm = tracing::vm(owner(self.vm()));
        self.machine
            .trace_holder(frame.pa(), Order::PAGE, Holder::Shown, vm);
        let mapped = self
            .stage2
            .map_page(page, frame, attributes, DirtyState::Dirty);
        // The frame is its owner's, mapped or not.
        match mapped.map_err(|refused| refused.reason) {
            Err(MapError::Occupied(_)) => self.allow(IpaRange::entry(page, Level::L3), rights),
            mapped => outcome_of(page, mapped),
        }
    }

    /// Gives what is shown in `range` these rights.
    pub fn allow(&self, range: IpaRange, rights: Rights) -> Outcome {
        match self.stage2.protect(range, rights) {
            Ok(()) => Outcome::Resume,
            Err(stage2::OutOfFrames) => Outcome::OutOfMemory,
        }
    }

    /// Frees what was unmapped. Lets others run now and then if the frames lie apart, which takes
    /// its time.
    fn free_leaves(&self, run: UnmappedRun<'_>) {
        let machine = self.machine;
        if run.level() != Level::L3 {
            return run
                .into_leaves()
                .for_each(|leaf| machine.free_of_guest(leaf.frame));
        }
        let used = Use::Data {
            vm: self.vm(),
            ipa: run.ipa(),
        };
        let frames = run
            .into_frames()
            .map(|frame| frame.map(GuestFrame::into_pa));
        let mut rest = Some(Run::new(used, frames));
        while let Some(run) = rest {
            rest = machine.allocator().free_some(machine.cpu(), run);
            if rest.is_some() {
                machine.cond_resched();
            }
        }
    }

    /// Takes memory away that the guest has no use for: what it touches again reads as zeros. The
    /// part of `range` outside the RAM is ignored.
    pub fn release(&self, range: IpaRange) -> Result<(), ReleaseError> {
        let Some(range) = range.intersection(&self.ram()) else {
            return Ok(());
        };
        let _unlogged = self.logging.discard().ok_or(ReleaseError::Logged)?;
        Ok(self.stage2.unmap_runs(range, |run| self.free_leaves(run))?)
    }

    /// Gives up reservations until some memory is free; returns the frames that came free, none if
    /// nothing is reserved any more.
    pub fn give_up_reservations(&self) -> usize {
        self.reservations.give_up_some(self.machine)
    }

    /// Gives up the reservation of the region round `ipa`, which is RAM; returns the frames that
    /// came free.
    pub fn give_up_reservation(&self, ipa: Ipa) -> usize {
        self.reservations.give_up(self.machine, ipa)
    }

    /// Frees everything. No vCPU of the VM can run any more, and no CPU has its tables loaded: if
    /// one has, which is a mistake, that is logged, and nothing is ever freed.
    pub fn destroy(self) {
        let Self {
            machine,
            stage2,
            reservations,
            logging: _,
            settings: _,
        } = self;
        let destroyed = stage2.destroy(|leaf| {
            // What `show` has mapped is its owner's.
            if !leaf.descriptor.is_pinned() {
                machine.free_of_guest(leaf.frame);
            }
        });
        match destroyed {
            Ok(()) => reservations.free(machine),
            Err(loaded) => log::error!("the memory of a machine is lost: {loaded}"),
        }
    }
}

/// Dirty logging.
impl<P: Parts> GuestMemory<'_, P> {
    /// Whether it is noted which pages the guest writes to.
    #[inline]
    pub fn is_logging(&self) -> bool {
        self.logging.is_on()
    }

    /// Switches logging on or off. It begins, for a range, with the next
    /// [`collect_dirty`](Self::collect_dirty) of it, whose answer is of no use.
    ///
    /// Waits for memory that is being taken back: called outside read sections, with no lock held.
    pub fn set_logging(&self, on: bool) {
        if on {
            self.logging.switch_on(|| self.machine().yield_now());
        } else {
            self.logging.switch_off();
        }
    }

    /// Calls `dirty` for what was written in `range` since this was last called for it, and begins
    /// anew: see [`stage2::Stage2::collect_dirty`]. What was mapped since counts as written.
    pub fn collect_dirty(&self, range: IpaRange, dirty: impl FnMut(IpaRange)) {
        if let Some(range) = range.intersection(&self.ram()) {
            self.stage2().collect_dirty(range, dirty);
        }
    }
}

/// Who owns the tables of a VM.
fn owner(vm: VmId) -> Owner {
    Owner::new(u32::from(vm.0) + 1).expect("a number of 16 bits and one more is one of 28 bits")
}

/// What mapping memory to `ipa` means for the guest.
#[inline(always)]
pub(super) fn outcome_of(ipa: Ipa, mapped: Result<(), MapError>) -> Outcome {
    match mapped {
        Ok(()) => Outcome::Resume,
        Err(reason) => not_mapped(ipa, reason),
    }
}

#[cold]
#[inline(never)]
fn not_mapped(ipa: Ipa, reason: MapError) -> Outcome {
    match reason {
        // Another vCPU was faster: the guest finds what was mapped.
        MapError::Occupied(_) => Outcome::Resume,
        MapError::Busy => Outcome::Busy,
        MapError::OutOfFrames => Outcome::OutOfMemory,
        mistake => mistaken(ipa, &mistake),
    }
}

/// The tables refuse what they are never to be asked for: no guest is at fault, and none is given
/// an abort for it.
#[cold]
#[inline(never)]
fn mistaken(ipa: Ipa, answer: &dyn fmt::Debug) -> Outcome {
    log::error!("mistake in the memory of a machine, at {ipa:?}: {answer:?}");
    Outcome::Mistake
}
