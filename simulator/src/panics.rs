//! Panics as findings: whoever is called here may be wrong, and its run goes on to say so, with its seed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a text".to_owned())
}

/// Calls somebody. What was changed on the way is not looked at after a panic.
///
/// # Errors
/// Who panicked, and what was said.
pub(crate) fn caught<T>(who: &str, call: impl FnOnce() -> T) -> Result<T, String> {
    let called = catch_unwind(AssertUnwindSafe(call));
    called.map_err(|panic| format!("{who} panicked: {}", text_of(panic.as_ref())))
}
