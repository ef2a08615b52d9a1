//! Applications by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::application::Application;
use crate::apps;

/// The applications that a program knows, so that a job can name one.
#[derive(Clone, Default)]
pub struct Registry {
    applications: BTreeMap<String, Arc<dyn Application>>,
}

impl Registry {
    /// A registry without applications.
    pub fn new() -> Self {
        Self::default()
    }

    /// A registry with all of [`crate::apps`].
    pub fn standard() -> Self {
        let mut registry = Self::new();
        apps::register(&mut registry);
        registry
    }

    /// Adds an application, in the place of one of the same name.
    pub fn insert(&mut self, name: impl Into<String>, application: impl Application + 'static) {
        self.applications.insert(name.into(), Arc::new(application));
    }

    /// The application of that name.
    pub fn find(&self, name: &str) -> Option<Arc<dyn Application>> {
        self.applications.get(name).cloned()
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.applications.keys().map(String::as_str)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.applications.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_applications_are_there() {
        let registry = Registry::standard();
        let names: Vec<_> = registry.names().collect();
        let expected = [
            "crash",
            "early_exit",
            "indexer",
            "jobcount",
            "mtiming",
            "nocrash",
            "rtiming",
            "sort",
            "wc",
        ];
        assert_eq!(names, expected);
        assert!(registry.find("wc").is_some());
        assert!(registry.find("WC").is_none());
        assert!(Registry::new().find("wc").is_none());
    }
}
