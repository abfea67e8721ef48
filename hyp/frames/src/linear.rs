//! Where physical memory is found in the address space.
//!
//! Owns the allocator's only `unsafe` accesses: [`LinearMap`], the way from a physical address to a
//! pointer, which each environment supplies, and `Carved`, an array in memory that was taken from
//! the machine's RAM before there was an allocator.

use core::ops::{Index, Range};
use core::ptr::NonNull;
use stage2::Pa;

/// How RAM is reached through pointers.
///
/// # Safety
///
/// For every range of RAM that an allocator is made with, and as long as the implementing value
/// exists:
/// - `pointer` of each address in the range is valid for reads and writes, with provenance over the
///   whole range;
/// - it advances as the address does, and is a multiple of 4096 where the address is one.
pub unsafe trait LinearMap: Send + Sync {
    /// The pointer to the byte at `pa`.
    fn pointer(&self, pa: Pa) -> NonNull<u8>;

    /// Fills `bytes` bytes from `pa` on with zeros, which a guest sees with its caches off as well.
    /// Both are multiples of 4096.
    ///
    /// # Safety
    ///
    /// The bytes are RAM of a range that the allocator was made with, and nobody else accesses them
    /// during the call.
    unsafe fn zero(&self, pa: Pa, bytes: u64) {
        // SAFETY: the caller grants sole access to these bytes, and the trait's contract makes the
        // pointer valid for all of them.
        unsafe { self.pointer(pa).write_bytes(0, bytes as usize) }
    }
}

/// An array in RAM that nothing else uses. Its elements are only shared, and never dropped.
pub(super) struct Carved<T> {
    first: NonNull<T>,
    len: usize,
}

// SAFETY: a `Carved<T>` gives out only shared references to its elements, like a `&[T]`.
unsafe impl<T: Sync> Send for Carved<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Carved<T> {}

impl<T> Carved<T> {
    /// Makes an array of `len` elements at `pa`.
    ///
    /// # Safety
    ///
    /// - `len * size_of::<T>()` bytes from `pa` on lie in one range of RAM of `map`, and are used
    ///   by nothing else from now on.
    /// - `pa` is a multiple of `align_of::<T>()`, which is at most 4096.
    /// - The value is not used after `map` is dropped.
    pub(super) unsafe fn new<M: LinearMap>(
        map: &M,
        pa: Pa,
        len: usize,
        mut element: impl FnMut() -> T,
    ) -> Self {
        let first = map.pointer(pa).cast::<T>();
        for i in 0..len {
            // SAFETY: element `i` lies within the bytes that the caller granted, aligned because
            // `pointer` keeps alignments up to 4096.
            unsafe { first.add(i).write(element()) };
        }
        Self { first, len }
    }
}

impl<T: Sync> Carved<T> {
    /// The first `len` elements, or all if there are fewer, as an array of their own.
    pub(super) fn prefix(&self, len: usize) -> Self {
        Self {
            first: self.first,
            len: self.len.min(len),
        }
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The elements with these indices.
    #[inline]
    pub(super) fn part(&self, indices: Range<usize>) -> &[T] {
        let Range { start, end } = indices;
        assert!(start <= end && end <= self.len, "indices below the length");
        // SAFETY: as for `get`; all of them lie in one range of RAM, which the pointer may reach.
        unsafe { core::slice::from_raw_parts(self.first.as_ptr().add(start), end - start) }
    }

    /// The element with this index, if there is one.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        // SAFETY: `new` wrote `len` elements from `first` on, in memory that nothing else uses, and
        // no mutable reference to any is ever made.
        (index < self.len).then(|| unsafe { self.first.add(index).as_ref() })
    }

    /// An iterator over all elements.
    pub(super) fn iter(&self) -> core::slice::Iter<'_, T> {
        self.part(0..self.len).iter()
    }
}

impl<T: Sync> Index<usize> for Carved<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        self.get(index).expect("an index below the length")
    }
}
