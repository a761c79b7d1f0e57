//! Health, metrics and the control API.
