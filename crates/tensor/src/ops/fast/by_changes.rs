//! Fast weights that are not formed: reads of a short sequence by the changes themselves.
//!
//! After changes (η, p, q), `F x = Σ_s w(t, s) p_s ∘ (α (q_s ∘ x))` with `w(t, s) = η_s Π_{s < r < t} (1 − η_r)`, and likewise for
//! `Fᵀ g`, for what an update's derivatives are made of, and for ‖F‖². That is a product of matrices with α for all pairs of a
//! change and a read: on a device with units for those, a sequence of some tens of steps is done before F could have been read
//! and written once a step. Nothing is undone on the way back, so nothing is copied or replayed. What can wait until all changes
//! are known, ‖F‖² and the derivatives by α and β, is done by F in registers, which takes as many steps as there are changes.

use super::path::Path;
use super::*;

/// How plastic a layer is, for products: α as [`ByChanges::prepare`] leaves it, and β `[out]`.
#[derive(Debug)]
pub struct Prepared<'a, Buffer> {
    /// α
    pub alpha: &'a Buffer,
    /// β
    pub beta: &'a Buffer,
}

/// Kernels of fast weights by their changes. A read at version v comes after v changes.
pub trait ByChanges<Buffer> {
    /// Up to how many changes they are worth their while.
    fn most(&self) -> usize;

    /// α `[out, inp]` as products take it.
    ///
    /// # Errors
    /// Device errors.
    fn prepare(&self, alpha: &Buffer, sizes: FastSizes) -> Result<Buffer>;

    /// `F x`, plus c if `bias`, after some changes, of which there is one: x `[batch, inp]` to `[batch, out]`.
    ///
    /// # Errors
    /// Device errors.
    fn read(
        &self,
        plastic: &Prepared<'_, Buffer>,
        changes: &[Change<'_, Buffer>],
        x: &Buffer,
        bias: bool,
        sizes: FastSizes,
    ) -> Result<Buffer>;

    /// `Fᵀ g` likewise: g `[batch, out]` to `[batch, inp]`.
    ///
    /// # Errors
    /// Device errors.
    fn read_transposed(
        &self,
        plastic: &Prepared<'_, Buffer>,
        changes: &[Change<'_, Buffer>],
        g: &Buffer,
        sizes: FastSizes,
    ) -> Result<Buffer>;

    /// ‖F‖² `[batch]` after each of some changes from number `first` on, α `[out, inp]` being as it is.
    ///
    /// # Errors
    /// Device errors.
    fn norms(
        &self,
        alpha: &Buffer,
        changes: &[Change<'_, Buffer>],
        first: usize,
        sizes: FastSizes,
    ) -> Result<Vec<Buffer>>;

    /// The derivatives by the first of some changes, its η `[batch]`, p `[batch, out]` and q `[batch, inp]`, given all terms
    /// after it, each with the number of changes it comes after, in their order. `inner` is S, which is taken back to before it.
    ///
    /// # Errors
    /// Device errors.
    fn credit(
        &self,
        inner: &mut Buffer,
        plastic: &Prepared<'_, Buffer>,
        changes: &[Change<'_, Buffer>],
        terms: &[(usize, Term<'_, Buffer>)],
        sizes: FastSizes,
    ) -> Result<[Buffer; 3]>;

    /// The derivatives by α `[out, inp]` and β `[out]` of all of some changes.
    ///
    /// # Errors
    /// Device errors.
    fn credit_by_plastic(
        &self,
        changes: &[Change<'_, Buffer>],
        terms: &[(usize, Term<'_, Buffer>)],
        sizes: FastSizes,
    ) -> Result<(Buffer, Buffer)>;
}

/// The derivatives by a change's η, p and q, and by α and β where they are whole.
pub(super) type ChangeGrads<Buffer> = ([Buffer; 3], Option<(Buffer, Buffer)>);

impl<B: Backend> Path<B> {
    /// Whether F is not formed: on a device that has the kernels, for a sequence known to be short, that began at zero and has
    /// somebody who may come back.
    pub(super) fn is_by_changes(&self) -> bool {
        let few = |most: usize| self.steps.is_some_and(|steps| steps <= most) && self.changes.len() <= most;
        self.recorded
            && self.start.is_none()
            && self.fast.is_none()
            && self.backend.by_changes().is_some_and(|kernels| few(kernels.most()))
    }

    fn first_changes(&self, version: usize) -> Vec<Change<'_, B::Buffer>> {
        self.changes[..version].iter().map(|record| record.change()).collect()
    }

    /// α for products, made at its first use.
    fn prepared(&mut self, kernels: &dyn ByChanges<B::Buffer>) -> Result<B::Buffer> {
        if let Some(prepared) = &self.prepared {
            return Ok(prepared.clone());
        }
        let (alpha, _) = self.plastic()?;
        Ok(self.prepared.insert(kernels.prepare(&alpha.buffer, self.sizes)?).clone())
    }

    /// `F x`, plus c if `bias`, at a version above 0, by the changes before it; `None` where F is formed.
    pub(super) fn read_by_changes(
        &mut self,
        version: usize,
        x: &Array<B>,
        bias: bool,
    ) -> Result<Option<B::Buffer>> {
        let backend = self.backend.clone();
        let Some(kernels) = backend.by_changes().filter(|_| version > 0 && self.is_by_changes()) else {
            return Ok(None);
        };
        let (alpha, (_, beta)) = (self.prepared(kernels)?, self.plastic()?);
        let plastic = Prepared { alpha: &alpha, beta: &beta.buffer };
        kernels.read(&plastic, &self.first_changes(version), &x.buffer, bias, self.sizes).map(Some)
    }

    /// `Fᵀ g` likewise.
    pub(super) fn read_transposed_by_changes(
        &mut self,
        version: usize,
        g: &Array<B>,
    ) -> Result<Option<B::Buffer>> {
        let backend = self.backend.clone();
        let Some(kernels) = backend.by_changes().filter(|_| version > 0 && self.is_by_changes()) else {
            return Ok(None);
        };
        let (alpha, (_, beta)) = (self.prepared(kernels)?, self.plastic()?);
        let plastic = Prepared { alpha: &alpha, beta: &beta.buffer };
        kernels.read_transposed(&plastic, &self.first_changes(version), &g.buffer, self.sizes).map(Some)
    }

    /// Takes the norms after the changes that had none yet.
    pub(super) fn norms_by_changes(&mut self) -> Result<()> {
        let backend = self.backend.clone();
        let Some(kernels) = backend.by_changes().filter(|_| self.carried < self.changes.len()) else {
            return Ok(());
        };
        let ((alpha, _), all) = (self.plastic()?, self.changes.len());
        let norms = kernels.norms(&alpha.buffer, &self.first_changes(all), self.carried, self.sizes)?;
        self.carried = all;
        self.norms
            .extend(norms.into_iter().map(|norm| Array::new(&backend, norm, [self.sizes.batch].into())));
        Ok(())
    }

    /// The derivatives by change `index`, and, unless the sweep goes on to `earlier` ones, those by α and β.
    pub(super) fn credit_by_changes(
        &mut self,
        index: usize,
        earlier: bool,
    ) -> Result<ChangeGrads<B::Buffer>> {
        let backend = self.backend.clone();
        let Some(kernels) = backend.by_changes() else {
            return Err(TensorError::Untracked { what: "fast weights by their changes" });
        };
        let (alpha, (_, beta)) = (self.prepared(kernels)?, self.plastic()?);
        let plastic = Prepared { alpha: &alpha, beta: &beta.buffer };
        let Self { sizes, changes, back: Some(back), .. } = self else {
            return Err(TensorError::Untracked { what: "a way back" });
        };
        let changes: Vec<_> = changes[index..].iter().map(|record| record.change()).collect();
        // the sweep met the last first
        let mut terms = Vec::with_capacity(back.terms.len());
        for held in back.terms.iter().rev() {
            terms.push((held.version - index, held.term()));
        }
        let by_change = kernels.credit(&mut back.credit.inner, &plastic, &changes, &terms, *sizes)?;
        let by_plastic =
            if earlier { None } else { Some(kernels.credit_by_plastic(&changes, &terms, *sizes)?) };
        Ok((by_change, by_plastic))
    }
}
