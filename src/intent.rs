//! Room 4 what is asked: catalog, matcher, readers.
