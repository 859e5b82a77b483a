//! plastica-tensor
