//! Picking elements on a CUDA device. Putting them back adds up equal places' elements in their order, never
//! by atomic additions, so that the sums are the same each time.

use super::IndexingKernels;
use crate::cuda::{Cuda, CudaBuffer, elements};
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &["take", "put_apart", "put_sums"];

impl IndexingKernels for Cuda {
    fn take(&self, x: &CudaBuffer, indices: &[u32], run: usize) -> Result<CudaBuffer> {
        let (len, indices) = (indices.len() * run, self.upload_indices(indices)?);
        self.build(len, |out| {
            let arguments = (out, x.slice(), indices.slice(), run as u32, len as u32);
            // SAFETY: take(out, x, indices, run, len) writes `len` elements, as many as `out` has, and reads
            // the runs of `x` that the indices number, which the caller has checked
            unsafe { self.launch("take", elements(len), arguments) }
        })
    }

    fn put(&self, x: &CudaBuffer, indices: &[u32], run: usize, len: usize) -> Result<CudaBuffer> {
        let mut out = self.full(len, 0.0)?;
        if len == 0 {
            return Ok(out);
        }
        if are_apart(indices, len / run) {
            let (len, indices) = (indices.len() * run, self.upload_indices(indices)?);
            let arguments = (out.make_mut()?, x.slice(), indices.slice(), run as u32, len as u32);
            // SAFETY: put_apart(out, x, indices, run, len) reads `len` elements, as many as `x` has, and writes
            // the runs of `out` that the indices number, which the caller has checked, each once
            unsafe { self.launch("put_apart", elements(len), arguments) }?;
        } else {
            let Gathered { targets, starts, sources } = Gathered::of(indices);
            let len = targets.len() * run;
            let [targets, starts, sources] =
                [targets, starts, sources].map(|list| self.upload_indices(&list));
            let (targets, starts, sources) = (targets?, starts?, sources?);
            let lists = (targets.slice(), starts.slice(), sources.slice());
            let arguments = (out.make_mut()?, x.slice(), lists.0, lists.1, lists.2, run as u32, len as u32);
            // SAFETY: put_sums(out, x, targets, starts, sources, run, len) writes the runs of `out` that are
            // targets, `len / run` of them, each once, and reads the runs of `x` that are sources; there is
            // one more start than there are targets, and the last is the number of sources
            unsafe { self.launch("put_sums", elements(len), arguments) }?;
        }
        Ok(out)
    }
}

impl Cuda {
    /// Indices on the device, as the bits of a buffer, so that one pool serves all.
    pub(crate) fn upload_indices(&self, indices: &[u32]) -> Result<CudaBuffer> {
        self.upload(indices.iter().map(|&i| f32::from_bits(i)).collect())
    }
}

/// Whether no two of the indices, all below `len`, are equal.
fn are_apart(indices: &[u32], len: usize) -> bool {
    if indices.is_sorted_by(|a, b| a < b) {
        return true;
    }
    let mut seen = vec![false; len];
    indices.iter().all(|&i| !std::mem::replace(&mut seen[i as usize], true))
}

/// Indices by their value: target `targets[t]` occurs at the places `sources[starts[t]..starts[t + 1]]`, which
/// ascend.
#[derive(Debug, PartialEq)]
struct Gathered {
    targets: Vec<u32>,
    starts: Vec<u32>,
    sources: Vec<u32>,
}

impl Gathered {
    fn of(indices: &[u32]) -> Self {
        let mut sources: Vec<u32> = (0..indices.len() as u32).collect();
        sources.sort_by_key(|&place| indices[place as usize]);
        let (mut targets, mut starts) = (Vec::new(), Vec::new());
        for (start, &place) in (0..).zip(&sources) {
            let target = indices[place as usize];
            if targets.last() != Some(&target) {
                targets.push(target);
                starts.push(start);
            }
        }
        starts.push(sources.len() as u32);
        Self { targets, starts, sources }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_indices_are_noticed() {
        let check = |indices: &[u32], apart: bool| assert_eq!(are_apart(indices, 6), apart, "{indices:?}");
        check(&[], true);
        check(&[0, 2, 5], true);
        check(&[5, 0, 2], true);
        check(&[2, 2], false);
        check(&[5, 0, 5], false);
    }

    #[test]
    fn indices_are_gathered_in_their_order() {
        let gathered = Gathered::of(&[7, 2, 7, 0, 7]);
        let [targets, starts, sources] = [vec![0, 2, 7], vec![0, 1, 2, 5], vec![3, 1, 0, 2, 4]];
        assert_eq!(gathered, Gathered { targets, starts, sources });
    }
}
