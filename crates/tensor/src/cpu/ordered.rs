//! Parallel work whose result does not depend on the number of threads.

use rayon::prelude::*;

use crate::{Result, TensorError};

/// Applies `f` to every item, in parallel, and gives the results in the items' order.
///
/// Callers add the results up in that order, which is what makes a sum independent of how the items were
/// spread over threads.
///
/// # Errors
/// The error of the first item that failed.
pub fn ordered_map<T: Send, R: Send, Err: Send>(
    items: Vec<T>,
    f: impl Fn(T) -> Result<R, Err> + Send + Sync,
) -> Result<Vec<R>, Err> {
    let results: Vec<Result<R, Err>> = items.into_par_iter().with_max_len(1).map(f).collect();
    results.into_iter().collect()
}

/// Runs `f` with `threads` worker threads instead of one a core.
///
/// # Errors
/// [`TensorError::Setting`] when the threads cannot be started.
pub fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> Result<R> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|_| {
        let rule = "this many threads could not be started";
        TensorError::Setting { name: "threads", value: threads.to_string(), rule }
    })?;
    Ok(pool.install(f))
}
