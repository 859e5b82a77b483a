//! The report from outside: the verdicts of its claims, what its three forms say, and how the page stands in a browser.

mod browser;
mod claims;
mod content;
mod support;
