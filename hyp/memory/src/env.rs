//! The frame allocator as the table manager's environment.

use super::tracing::{self, Tracer};
use core::ops::Deref;
use core::ptr::NonNull;
use frames::{self, Fill, FrameAllocator, LinearMap, Order, Use};
use stage2::{
    Cpus, ENTRIES, Environment, Frames, GuestFrame, Observation, Observer, OutOfFrames, Owner,
    PAGE_SIZE, Pa, Table, TableFrame, TableMeta, TableWindow, Tlb, Topic, Unreadable,
};
use trace::event::{Holder, NOBODY};
use trace::{Category, Event};

/// What the hardware does for guest memory beside translating.
pub trait Hardware: Tlb + Sync {
    /// Makes what a guest stored with its caches off visible to the hypervisor, whose caches are
    /// on: cleans and invalidates to the point of coherency. Nothing to do with FEAT_S2FWB.
    fn before_reading(&self, page: Pa);

    /// Makes what the hypervisor stored visible to a guest with its caches off: cleans to the point
    /// of coherency. Nothing to do with FEAT_S2FWB. Instruction fetches see it too when the page is
    /// mapped next: no instruction cache holds anything of a frame that is not.
    fn after_writing(&self, page: Pa);

    /// Whether an interrupt waits for this CPU, so that long work is to be left for later.
    fn is_interrupted(&self) -> bool {
        false
    }

    /// Loads a word of a guest's memory, or says that the hardware refuses that.
    ///
    /// # Safety
    ///
    /// The word is RAM that is mapped, at a multiple of eight bytes. A guest may store to it
    /// meanwhile.
    unsafe fn load_word(&self, word: NonNull<u64>) -> Result<u64, Unreadable> {
        // SAFETY: as the caller promises. Volatile, since it may change.
        Ok(unsafe { word.read_volatile() })
    }

    /// Copies a page of a guest's memory, or says that the hardware refuses that; then `to` may
    /// hold anything.
    ///
    /// # Safety
    ///
    /// Both are pages of RAM that is mapped; `to` is the caller's alone. A guest may store to
    /// `from` meanwhile.
    unsafe fn copy_page(&self, from: NonNull<u8>, to: NonNull<u8>) -> Result<(), Unreadable> {
        // SAFETY: as the caller promises.
        unsafe { from.copy_to_nonoverlapping(to, PAGE_SIZE as usize) };
        Ok(())
    }
}

/// What a machine is made of: EL2's own parts, or a test's.
pub trait Parts {
    /// How RAM is reached.
    type Map: LinearMap;
    /// Caches and TLBs.
    type Hardware: Hardware;
    /// The CPUs.
    type Cpus: Cpus + Sync;
    /// Where events go.
    type Tracer: Tracer;
}

/// The machine, as guests' memory sees it: frames, caches, CPUs.
pub struct Machine<P: Parts> {
    frames: FrameAllocator<P::Map>,
    hardware: P::Hardware,
    cpus: P::Cpus,
}

impl<P: Parts> Machine<P> {
    /// Puts the parts together.
    pub const fn new(frames: FrameAllocator<P::Map>, hardware: P::Hardware, cpus: P::Cpus) -> Self {
        Self {
            frames,
            hardware,
            cpus,
        }
    }

    /// The frame allocator.
    #[inline]
    pub fn allocator(&self) -> &FrameAllocator<P::Map> {
        &self.frames
    }

    /// Takes a block for the hypervisor's own use, which is no guest's until it is given back.
    ///
    /// # Errors
    ///
    /// There is no free block of this order.
    pub fn take_own(&self, order: Order, fill: Fill) -> Result<Pa, frames::OutOfFrames> {
        let block = self
            .frames
            .alloc(self.cpu(), order, fill, Use::Hypervisor)?;
        self.trace_holder(block, order, Holder::Hypervisor, NOBODY);
        Ok(block)
    }

    /// Gives back what [`take_own`](Self::take_own) returned.
    pub fn give_back_own(&self, block: Pa, order: Order) {
        // Before it can be a guest's.
        self.trace_holder(block, order, Holder::Guests, NOBODY);
        // A refusal is a mistake that the allocator has logged.
        let _ = self.frames.free(self.cpu(), block, order);
    }

    /// Tells a checker whose a block is from now on.
    pub(super) fn trace_holder(&self, block: Pa, order: Order, holder: Holder, vm: u8) {
        if P::Tracer::wanted().has(Category::Replay) {
            let event = Event::Held {
                holder,
                order: P::Tracer::next_order(),
                start: block.get(),
                end: block.get() + order.bytes(),
            };
            P::Tracer::emit(vm, event);
        }
    }

    /// Caches and TLBs.
    #[inline]
    pub fn hardware(&self) -> &P::Hardware {
        &self.hardware
    }

    /// Lets other threads of this CPU run; see [`Cpus::yield_now`].
    pub fn yield_now(&self) {
        self.cpus.yield_now();
    }

    /// Lets other threads run if they have waited long enough; see [`Cpus::cond_resched`].
    pub fn cond_resched(&self) {
        self.cpus.cond_resched();
    }

    /// The CPU that this runs on.
    #[inline]
    pub fn cpu(&self) -> usize {
        self.cpus.current()
    }
}

// SAFETY: the allocator hands a block out once until it is freed, frees none that is a table,
// aligned to its size, and zeroed where that is asked for; and `Frame::table` is a field of the
// frame's metadata, of which each frame has one, at one place, for ever.
unsafe impl<P: Parts> Frames for Machine<P> {
    #[inline]
    fn allocate_tables(&self, order: u32) -> Result<Pa, OutOfFrames> {
        let order = u8::try_from(order)
            .ok()
            .and_then(Order::new)
            .ok_or(OutOfFrames)?;
        self.frames
            .alloc(self.cpu(), order, Fill::Zeroed, Use::Table)
            .map_err(|_| OutOfFrames)
    }

    #[inline]
    fn allocate_filled_table(&self) -> Result<Pa, OutOfFrames> {
        self.frames
            .alloc(self.cpu(), Order::PAGE, Fill::Dirty, Use::Table)
            .map_err(|_| OutOfFrames)
    }

    fn free_tables(&self, first: TableFrame, order: u32) {
        if let Some(order) = u8::try_from(order).ok().and_then(Order::new) {
            // A refusal is a mistake of the table manager's; the allocator has logged it.
            let _ = self.frames.free(self.cpu(), first.pa(), order);
        }
    }

    #[inline]
    fn table_meta(&self, pa: Pa) -> Option<&TableMeta> {
        self.frames.table_meta(pa)
    }

    // At no cost to a fault: guests' frames are made of what was allocated for them, and the
    // allocator neither frees a frame that is a table nor changes its use.
    #[inline(always)]
    fn holds_tables(&self, _: &GuestFrame) -> bool {
        false
    }
}

/// A table in the linear map.
pub struct LinearTable<'a>(&'a Table);

impl Deref for LinearTable<'_> {
    type Target = Table;

    #[inline]
    fn deref(&self) -> &Table {
        self.0
    }
}

// SAFETY: the linear map leads from a frame's address to that frame's memory and no other.
unsafe impl<P: Parts> TableWindow for Machine<P> {
    type Ref<'a>
        = LinearTable<'a>
    where
        Self: 'a;

    #[inline]
    fn table(&self, table: TableFrame) -> LinearTable<'_> {
        let table = self.frames.map().pointer(table.pa()).cast::<Table>();
        // SAFETY: the table manager names a frame from `allocate_tables`: 4 KiB of RAM, aligned to
        // 4 KiB, as `Table` is, used as a table only, and not freed while a reader may hold the
        // reference. All accesses to it are atomic (`Table` has nothing else).
        LinearTable(unsafe { table.as_ref() })
    }

    #[inline]
    fn fill(&self, table: TableFrame, first: u64, step: u64) {
        let entries = self.frames.map().pointer(table.pa());
        let entries = entries.cast::<[u64; ENTRIES]>();
        // SAFETY: as in `table`, and nobody else can reach the memory, so it may be stored to as
        // what it is, 512 words.
        let entries = unsafe { &mut *entries.as_ptr() };
        match step {
            PAGE_SIZE => store_sequence::<PAGE_SIZE>(entries, first),
            _ => (0..)
                .zip(entries)
                .for_each(|(index, entry)| *entry = first.wrapping_add(index * step)),
        }
    }
}

/// Stores `first`, `first + STEP` and so on. Written so that the compiler makes one addition an
/// entry of it, and one store of a pair for two.
#[inline]
fn store_sequence<const STEP: u64>(entries: &mut [u64; ENTRIES], mut first: u64) {
    const AT_ONCE: usize = 32;
    for entries in entries.as_chunks_mut::<AT_ONCE>().0 {
        *entries = core::array::from_fn(|index| first.wrapping_add(index as u64 * STEP));
        first = first.wrapping_add(AT_ONCE as u64 * STEP);
    }
}

// SAFETY: the parts are the machine and fields of it.
unsafe impl<P: Parts> Environment for Machine<P> {
    type Frames = Self;
    type TableWindow = Self;
    type Tlb = P::Hardware;
    type Cpus = P::Cpus;
    type Observer = Self;

    #[inline]
    fn frames(&self) -> &Self {
        self
    }
    #[inline]
    fn window(&self) -> &Self {
        self
    }
    #[inline]
    fn tlb(&self) -> &P::Hardware {
        &self.hardware
    }
    #[inline]
    fn cpus(&self) -> &P::Cpus {
        &self.cpus
    }
    #[inline(always)]
    fn observer(&self) -> &Self {
        self
    }
}

impl<P: Parts> Observer for Machine<P> {
    #[inline(always)]
    fn traces(&self, topic: Topic) -> bool {
        P::Tracer::wanted().has(tracing::category(topic))
    }
    #[inline(always)]
    fn traces_any<const N: usize>(&self, topics: [Topic; N]) -> bool {
        P::Tracer::wanted().has_any(tracing::categories(topics))
    }
    #[inline]
    fn next_order(&self) -> u64 {
        P::Tracer::next_order()
    }
    #[inline(always)]
    fn trace(&self, owner: Owner, what: Observation) {
        P::Tracer::emit(tracing::vm(owner), tracing::event(what));
    }
    #[inline]
    fn clock(&self) -> u64 {
        P::Tracer::now()
    }
}
