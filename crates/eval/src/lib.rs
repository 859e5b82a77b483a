//! plastica-eval
