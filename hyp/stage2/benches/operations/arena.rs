//! Frames for tables, from each thread's own store: taking one writes nothing that other threads
//! use.
//!
//! A frame is known by its address, as in a linear map.

use std::cell::{Cell, UnsafeCell};
use std::ptr::with_exposed_provenance;
use std::sync::{Mutex, MutexGuard};

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// Makes the current thread this CPU of every machine. Each thread is another one.
pub(crate) fn be_cpu(cpu: usize) {
    CPU.set(cpu);
}

/// The CPU that the current thread is.
#[inline]
pub(crate) fn cpu() -> usize {
    CPU.get()
}

/// The addresses of the frames that a CPU may take.
#[repr(align(128))]
struct Store(Mutex<Vec<usize>>);

/// Frames, each with room for a `T`.
pub(crate) struct Arena<T> {
    frames: Box<[UnsafeCell<T>]>,
    first: usize,
    stores: Box<[Store]>,
}

// SAFETY: a frame's contents are replaced only in `take`, by the one who gets it; all else is
// shared references to a `T` that may be shared.
unsafe impl<T: Send + Sync> Sync for Arena<T> {}

impl<T> Arena<T> {
    /// So many frames for each CPU.
    pub(crate) fn new(cpus: usize, each: usize, empty: impl Fn() -> T) -> Self {
        let frames: Box<[_]> = (0..cpus * each).map(|_| UnsafeCell::new(empty())).collect();
        // The host may have promised zeroes and no more: what it takes to have them is not
        // measured.
        for frame in &frames {
            // SAFETY: nobody else has the frame yet.
            unsafe { frame.get().write_volatile(empty()) };
        }
        let first = frames.as_ptr().expose_provenance();
        let address = |index| first + index * size_of::<T>();
        let store = |cpu| (cpu * each..(cpu + 1) * each).map(address).collect();
        Self {
            stores: (0..cpus).map(|cpu| Store(Mutex::new(store(cpu)))).collect(),
            frames,
            first,
        }
    }

    fn store(&self) -> MutexGuard<'_, Vec<usize>> {
        let store = &self.stores[cpu()].0;
        store.lock().expect("nobody panics with a store")
    }

    /// Which of all the frames it is. Any number beyond for an address that is no frame's.
    #[inline]
    pub(crate) fn index(&self, address: usize) -> usize {
        address.wrapping_sub(self.first) / size_of::<T>()
    }

    /// A frame from this CPU's store, with these contents.
    pub(crate) fn take(&self, contents: T) -> Option<usize> {
        let address = self.store().pop()?;
        let frame = self.frames[self.index(address)].get();
        // SAFETY: the frame was in a store, so it is nobody's: no reference to its contents is
        // left.
        unsafe { frame.write(contents) };
        Some(address)
    }

    /// A frame from this CPU's store, with whatever it held last.
    pub(crate) fn take_as_it_is(&self) -> Option<usize> {
        self.store().pop()
    }

    /// Puts a frame that nobody uses into this CPU's store.
    pub(crate) fn give(&self, address: usize) {
        self.store().push(address);
    }

    /// The contents of a frame.
    ///
    /// # Safety
    ///
    /// It has been taken from this arena, and not been given back.
    #[inline]
    pub(crate) unsafe fn get(&self, address: usize) -> &T {
        // SAFETY: by the caller's word there is a `T` at the address, and while its frame is taken
        // it is only shared. The arena keeps the memory.
        unsafe { &*with_exposed_provenance(address) }
    }
}
