//! plastica-model
