//! plastica-tasks
