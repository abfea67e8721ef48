//! What only a host knows: which thread this is, and what it is in the middle of.

use core::cell::Cell;

std::thread_local! {
    static IS_TRACING: Cell<bool> = const { Cell::new(false) };
}

/// A number that no other thread has that lives at this time.
pub(super) fn thread() -> usize {
    IS_TRACING.with(|here| core::ptr::from_ref(here).addr())
}

pub(super) fn is_panicking() -> bool {
    std::thread::panicking()
}

/// # Panics
///
/// In a call of the observer.
pub(super) fn assert_not_tracing() {
    assert!(
        !IS_TRACING.get(),
        "Observer::trace: called the table manager"
    );
}

pub(super) fn while_tracing(trace: impl FnOnce()) {
    IS_TRACING.set(true);
    trace();
    IS_TRACING.set(false);
}
