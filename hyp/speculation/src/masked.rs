//! Indices that guests choose (Spectre v1).
//!
//! A CPU may suppose that an index passes its check, and load from wherever it points until it
//! knows better. What it has loaded, as an address of another load, leaves a trace in caches that a
//! guest can measure. So what a guest chooses, and EL2 looks something up by, is not only checked:
//! [`mask`] makes it zero if it is too large, by instructions of which no CPU supposes anything
//! (Arm, *Cache Speculation Side-channels*: a conditional select and CSDB). [`Masked`] does both.
//!
//! A remainder by a constant, or bits cut out of an address, need no mask: they are in range
//! whatever the CPU supposes.

/// `index` if that is below `length`, and zero if not, also where a CPU only supposes that it is
/// below.
#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline(always)]
pub fn mask(index: usize, length: usize) -> usize {
    let masked;
    // SAFETY: It changes nothing but flags, which are not said to be kept.
    unsafe {
        core::arch::asm!(
            "cmp {index}, {length}",
            "csel {masked}, {index}, xzr, lo",
            "csdb",
            index = in(reg) index,
            length = in(reg) length,
            masked = lateout(reg) masked,
            options(pure, nomem, nostack),
        );
    }
    masked
}

/// `index` if that is below `length`, and zero if not. Machines that are no targets have nothing to
/// hide.
#[cfg(not(all(target_arch = "aarch64", not(miri))))]
#[inline(always)]
pub const fn mask(index: usize, length: usize) -> usize {
    if index < length { index } else { 0 }
}

/// Elements by indices that guests choose.
pub trait Masked {
    /// What is looked up.
    type Element;

    /// The element with this index, if there is one.
    fn get_masked(&self, index: usize) -> Option<&Self::Element>;

    /// The element with this index, if there is one.
    fn get_masked_mut(&mut self, index: usize) -> Option<&mut Self::Element>;
}

impl<T> Masked for [T] {
    type Element = T;

    #[inline(always)]
    fn get_masked(&self, index: usize) -> Option<&T> {
        // SAFETY: The index is below the length, and so is what the mask leaves of it: all.
        (index < self.len()).then(|| unsafe { self.get_unchecked(mask(index, self.len())) })
    }

    #[inline(always)]
    fn get_masked_mut(&mut self, index: usize) -> Option<&mut T> {
        let length = self.len();
        // SAFETY: As above.
        (index < length).then(|| unsafe { self.get_unchecked_mut(mask(index, length)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mask_keeps_what_is_in_range_and_nothing_else(index: usize, length: usize) {
            for index in [index, length, length.wrapping_sub(1), 0, usize::MAX] {
                let expected = if index < length { index } else { 0 };
                prop_assert_eq!(mask(index, length), expected);
            }
        }

        #[test]
        fn what_is_found_is_what_is_there(elements: Vec<u8>, index: usize) {
            for index in [index, index % 128, elements.len()] {
                prop_assert_eq!(elements.get_masked(index), elements.get(index));
                let mut found = elements.clone();
                let mut expected = elements.clone();
                prop_assert_eq!(found.get_masked_mut(index), expected.get_mut(index));
            }
        }
    }
}
