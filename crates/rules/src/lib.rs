//! plastica-rules
