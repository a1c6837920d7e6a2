// SPDX-License-Identifier: GPL-2.0-only
//! Which function a line of the models belongs to, for reports and recorded events.
//!
//! The list is made by `build.rs` from the very sources that are compiled. Functions that a macro makes are not
//! in it; the models have none that take a lock.
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use lockdep::places::{self, FileFunctions, Functions};

/// Paths relative to `src`.
static FILES: &[(&str, Functions)] = include!(concat!(env!("OUT_DIR"), "/functions.rs"));

/// Tells the validator the function names of the models. Calling it again does nothing.
pub fn register() {
    static TABLE: OnceLock<&'static [FileFunctions]> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        // The compiler's name for a source file depends on where cargo was started and how this package was
        // reached; this very file shows what stands before the part that we know.
        let prefix = file!().strip_suffix("functions.rs").unwrap_or_default();
        let named = FILES.iter().map(|(file, functions)| (&*format!("{prefix}{file}").leak(), *functions));
        // Leaked once for the process: the validator keeps names for as long as it lives.
        Vec::leak(named.collect())
    });
    places::register(table);
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use lockdep::Place;
    use lockdep::places::function_at;

    #[track_caller]
    fn place() -> Place {
        Place::Code(Location::caller())
    }

    fn r#match() -> Place {
        place()
    }

    trait Model {
        fn with_a_body(&self) -> Place {
            place()
        }
        fn of_an_impl(&self) -> Place;
    }

    struct One;

    impl Model for One {
        fn of_an_impl(&self) -> Place {
            place()
        }
    }

    fn outer() -> (Place, Place, Place) {
        fn inner() -> Place {
            place()
        }
        let closure = || place();
        (place(), inner(), closure())
    }

    #[test]
    fn every_line_of_the_models_has_the_name_of_its_innermost_function() {
        super::register();
        let (here, inner, closure) = outer();
        assert_eq!(function_at(here), Some("outer"));
        assert_eq!(function_at(inner), Some("inner"));
        assert_eq!(function_at(closure), Some("outer"), "a closure belongs to the function around it");
        assert_eq!(function_at(One.with_a_body()), Some("with_a_body"));
        assert_eq!(function_at(One.of_an_impl()), Some("of_an_impl"));
        assert_eq!(function_at(r#match()), Some("match"), "the raw prefix is not part of the name");
    }
}
