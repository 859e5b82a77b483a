//! A layer's reads and updates as operations on the tape.

use super::by_changes::ChangeGrads;
use super::path::{HeldValue, Path};
use super::*;

/// `F x + c` at a version. Inputs: x and, if F has a history, its token.
pub(super) struct Read<B: Backend> {
    pub(super) path: Rc<RefCell<Path<B>>>,
    pub(super) version: usize,
    pub(super) value: Array<B>,
    pub(super) bias: bool,
}

impl<B: Backend> Op<B> for Read<B> {
    fn name(&self) -> &'static str {
        "fast weights' read"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let through_fast = r.wanted.get(1).copied().unwrap_or(false);
        if !r.is_plain() {
            // recorded now, a transposed read would stand after later updates, and be taken for one that follows them
            let late = r.inputs.len() > 1 && self.path.borrow().changes.len() > self.version;
            refuse_second_order(through_fast || late)?;
            return Ok(smallvec![Some(transposed(&self.path, self.version, grad, r.inputs.get(1))?), None]);
        }
        let mut path = self.path.borrow_mut();
        if through_fast {
            let (left, right) = (grad.array.clone(), r.inputs[0].array.clone());
            let value = HeldValue::Read(self.value.clone());
            path.include(r.sweep, self.version, [left, right], self.bias, value)?;
        }
        let before = if path.is_by_changes() { None } else { r.take_sum(0) };
        let dx = r.want(0, || {
            path.read_transposed_at(self.version, &grad.array, before.as_ref()).map(Tensor::from)
        })?;
        Ok(smallvec![dx, token_grad(&path, through_fast)?])
    }
}

/// `Fᵀ g` at a version: how a derivative by what was read becomes one by what read it, and a read of its own.
pub(super) fn transposed<B: Backend>(
    path: &Rc<RefCell<Path<B>>>,
    version: usize,
    g: &Tensor<B>,
    token: Option<&Tensor<B>>,
) -> Result<Tensor<B>> {
    let value = path.borrow_mut().read_transposed_at(version, &g.array, None)?;
    let op = ReadTransposed { path: Rc::clone(path), version, value: value.clone() };
    match token {
        Some(token) => Tape::record(op, &[g, token], value),
        None => Tape::record(op, &[g], value),
    }
}

/// `Fᵀ g` at a version. Inputs: g and, if F has a history, its token.
struct ReadTransposed<B: Backend> {
    path: Rc<RefCell<Path<B>>>,
    version: usize,
    value: Array<B>,
}

impl<B: Backend> Op<B> for ReadTransposed<B> {
    fn name(&self) -> &'static str {
        "fast weights' transposed read"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let through_fast = r.wanted.get(1).copied().unwrap_or(false);
        if !r.is_plain() {
            refuse_second_order(true)?;
        }
        let mut path = self.path.borrow_mut();
        if through_fast {
            let (left, right) = (r.inputs[0].array.clone(), grad.array.clone());
            let value = HeldValue::Transposed(self.value.clone());
            path.include(r.sweep, self.version, [left, right], false, value)?;
        }
        let dg = r.want(0, || path.read_at(self.version, &grad.array, false).map(Tensor::from))?;
        Ok(smallvec![dg, token_grad(&path, through_fast)?])
    }
}

/// An update. Inputs: η, α, β, p, q and, if F has a history, its token.
pub(super) struct Update<B: Backend> {
    pub(super) path: Rc<RefCell<Path<B>>>,
    pub(super) index: usize,
}

impl<B: Backend> Op<B> for Update<B> {
    fn name(&self) -> &'static str {
        "fast weights' update"
    }

    fn backward(&self, r: &Recorded<'_, B>, _: &Tensor<B>) -> Result<Grads<B>> {
        if !r.is_plain() {
            refuse_second_order(true)?;
        }
        let mut path = self.path.borrow_mut();
        let (alpha, beta) = path.plastic()?;
        let plastic = Plastic { alpha: &alpha.buffer, beta: &beta.buffer };
        path.back(r.sweep)?;
        let earlier = r.wanted.get(5).copied().unwrap_or(false);
        if path.is_by_changes() {
            let found = path.credit_by_changes(self.index, earlier)?;
            return self.grads(r, &path, found);
        }
        let Path { backend, sizes, changes, back, .. } = &mut *path;
        let Some(back) = back else { return Err(TensorError::Untracked { what: "a way back" }) };
        let read = std::mem::take(&mut back.terms);
        let terms: SmallVec<[Term<'_, B::Buffer>; 2]> = read.iter().map(HeldTerm::term).collect();
        let decay = back.decay.as_ref().map(|eta| &eta.buffer);
        let change = &changes[self.index];
        let (credit, before) = (&mut back.credit, r.take_sum(0));
        let by_change =
            backend.fast_credit(credit, &plastic, decay, &terms, change.change(), before.as_ref(), *sizes)?;
        back.decay = Some(change.eta.clone());
        // the sweep goes through no earlier update: α's and β's derivatives are whole
        let by_plastic =
            if earlier { None } else { Some(backend.fast_credit_by_plastic(&back.credit, *sizes)?) };
        self.grads(r, &path, (by_change, by_plastic))
    }
}

impl<B: Backend> Update<B> {
    fn grads(
        &self,
        r: &Recorded<'_, B>,
        path: &Path<B>,
        ([d_eta, dp, dq], by_plastic): ChangeGrads<B::Buffer>,
    ) -> Result<Grads<B>> {
        let tensor = |buffer, shape: Shape| Some(Tensor::from(Array::new(&path.backend, buffer, shape)));
        let FastSizes { batch, out, inp } = path.sizes;
        let (d_alpha, d_beta) = by_plastic.unzip();
        let mut grads: Grads<B> = smallvec![
            tensor(d_eta, [batch].into()),
            d_alpha.and_then(|d_alpha| tensor(d_alpha, [out, inp].into())),
            d_beta.and_then(|d_beta| tensor(d_beta, [out].into())),
            tensor(dp, [batch, out].into()),
            tensor(dq, [batch, inp].into())
        ];
        if r.inputs.len() > 5 {
            grads.push(token_grad(path, r.wanted[5])?);
        }
        Ok(grads)
    }
}

/// A token's gradient: nothing but the word that F has one.
fn token_grad<B: Backend>(path: &Path<B>, wanted: bool) -> Result<Option<Tensor<B>>> {
    let none = || Ok(Tensor::from(Array::zeros(&path.backend, [0])?));
    wanted.then(none).transpose()
}

fn refuse_second_order(refuse: bool) -> Result<()> {
    if !refuse {
        return Ok(());
    }
    let (what, instead) = ("second derivative through its updates", "plain fast weights, which have");
    Err(TensorError::NoDerivative { op: "fast weights in place", what, instead })
}
