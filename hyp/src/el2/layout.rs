//! Where the linker put the image's parts. Addresses are physical and virtual at once.

use core::ops::Range;

/// Declares functions that return the address of a symbol of the linker script.
macro_rules! symbols {
    ($($(#[$doc:meta])* $name:ident = $symbol:ident;)*) => {
        unsafe extern "C" {
            $(static $symbol: u8;)*
        }
        $($(#[$doc])*
        fn $name() -> usize {
            &raw const $symbol as usize
        })*
    };
}

symbols! {
    image_start_address = image_start;
    text_end_address = text_end;
    rodata_end_address = rodata_end;
    stacks_start_address = stacks_start;
    stacks_end_address = stacks_end;
    image_end_address = image_end;
}

/// The whole image, stacks included: what the frame allocator must leave alone.
pub(crate) fn image() -> Range<usize> {
    image_start_address()..image_end_address()
}

/// The code.
pub(crate) fn text() -> Range<usize> {
    image_start_address()..text_end_address()
}

/// The constants.
pub(crate) fn rodata() -> Range<usize> {
    text_end_address()..rodata_end_address()
}

/// The area that `stacks` divides.
pub(crate) fn stacks() -> Range<usize> {
    stacks_start_address()..stacks_end_address()
}
