//! Kernels that a CUDA device does not have of its own yet: values go to the host, the CPU's kernel computes, and
//! the result goes back. Right, and slow.

use std::ops::Range;

use super::{Cuda, CudaBuffer};
use crate::cpu::{Cpu, CpuBuffer};
use crate::ops::attention::{AttendedStep, AttentionKernels, CacheSizes, KeysValues};
use crate::ops::fast::{Advanced, Change, Credit, FastKernels, FastSizes, Plastic, Term};
use crate::ops::history::{Changes, HistoryKernels};
use crate::ops::layer_norm::{LayerNormGrad, LayerNormKernels};
use crate::ops::linear::LinearKernels;
use crate::ops::rank_one::RankOneKernels;
use crate::ops::steps::StepKernels;
use crate::{Result, Storage};

type Host = CpuBuffer<f32>;

const CPU: Cpu<f32> = Cpu::new();

impl Cuda {
    fn down(&self, buffer: &CudaBuffer) -> Result<Host> {
        CPU.upload(self.download(buffer)?)
    }

    fn up(&self, buffer: &Host) -> Result<CudaBuffer> {
        self.upload(CPU.download(buffer)?)
    }

    fn down_all(&self, buffers: &[&CudaBuffer]) -> Result<Vec<Host>> {
        buffers.iter().map(|buffer| self.down(buffer)).collect()
    }

    fn down_pair(&self, (a, b): &(CudaBuffer, CudaBuffer)) -> Result<(Host, Host)> {
        Ok((self.down(a)?, self.down(b)?))
    }

    fn up_pair(&self, (a, b): &(Host, Host)) -> Result<(CudaBuffer, CudaBuffer)> {
        Ok((self.up(a)?, self.up(b)?))
    }

    fn down_cache(&self, pair: &KeysValues<CudaBuffer>) -> Result<KeysValues<Host>> {
        Ok(KeysValues { keys: self.down(&pair.keys)?, values: self.down(&pair.values)? })
    }

    fn up_cache(&self, pair: &KeysValues<Host>) -> Result<KeysValues<CudaBuffer>> {
        Ok(KeysValues { keys: self.up(&pair.keys)?, values: self.up(&pair.values)? })
    }
}

impl LinearKernels for Cuda {
    fn linear(
        &self,
        x: &CudaBuffer,
        weight: &CudaBuffer,
        bias: &CudaBuffer,
        rows: usize,
        inp: usize,
        out: usize,
    ) -> Result<CudaBuffer> {
        self.up(&CPU.linear(&self.down(x)?, &self.down(weight)?, &self.down(bias)?, rows, inp, out)?)
    }

    fn sum_of_outer_products(
        &self,
        pairs: &[(&CudaBuffer, &CudaBuffer)],
        out: usize,
        inp: usize,
    ) -> Result<CudaBuffer> {
        let down = |(g, x): &(&CudaBuffer, &CudaBuffer)| Ok((self.down(g)?, self.down(x)?));
        let pairs: Vec<(Host, Host)> = pairs.iter().map(down).collect::<Result<_>>()?;
        let pairs: Vec<_> = pairs.iter().map(|(g, x)| (g, x)).collect();
        self.up(&CPU.sum_of_outer_products(&pairs, out, inp)?)
    }

    fn sum_of_rows(&self, parts: &[&CudaBuffer], width: usize) -> Result<CudaBuffer> {
        let parts = self.down_all(parts)?;
        self.up(&CPU.sum_of_rows(&parts.iter().collect::<Vec<_>>(), width)?)
    }
}

impl StepKernels for Cuda {
    fn place_steps(
        &self,
        parts: &[(usize, &CudaBuffer)],
        batch: usize,
        steps: usize,
        width: usize,
    ) -> Result<CudaBuffer> {
        let down = |&(t, part): &(usize, &CudaBuffer)| Ok((t, self.down(part)?));
        let parts: Vec<(usize, Host)> = parts.iter().map(down).collect::<Result<_>>()?;
        let parts: Vec<_> = parts.iter().map(|(t, part)| (*t, part)).collect();
        self.up(&CPU.place_steps(&parts, batch, steps, width)?)
    }
}

impl LayerNormKernels for Cuda {
    fn layer_norm(
        &self,
        x: &CudaBuffer,
        gamma: &CudaBuffer,
        beta: &CudaBuffer,
        cols: usize,
        eps: f64,
    ) -> Result<CudaBuffer> {
        self.up(&CPU.layer_norm(&self.down(x)?, &self.down(gamma)?, &self.down(beta)?, cols, eps)?)
    }

    fn layer_norm_grad(
        &self,
        x: &CudaBuffer,
        gamma: &CudaBuffer,
        grad: &CudaBuffer,
        cols: usize,
        eps: f64,
        parameters: bool,
    ) -> Result<LayerNormGrad<CudaBuffer>> {
        let (x, gamma, grad) = (self.down(x)?, self.down(gamma)?, self.down(grad)?);
        let found = CPU.layer_norm_grad(&x, &gamma, &grad, cols, eps, parameters)?;
        let parameters = found.parameters.map(|pair| self.up_pair(&pair)).transpose()?;
        Ok(LayerNormGrad { x: self.up(&found.x)?, parameters })
    }
}

/// An update's values on the host.
struct HostChange {
    eta: Host,
    p: Host,
    q: Host,
}

impl HostChange {
    fn of(cuda: &Cuda, change: &Change<'_, CudaBuffer>) -> Result<Self> {
        Ok(Self { eta: cuda.down(change.eta)?, p: cuda.down(change.p)?, q: cuda.down(change.q)? })
    }

    fn change(&self) -> Change<'_, Host> {
        Change { eta: &self.eta, p: &self.p, q: &self.q }
    }
}

impl FastKernels for Cuda {
    fn fast_advance(
        &self,
        fast: &mut Option<(CudaBuffer, CudaBuffer)>,
        plastic: &Plastic<'_, CudaBuffer>,
        change: Option<Change<'_, CudaBuffer>>,
        x: Option<(&CudaBuffer, bool)>,
        sizes: FastSizes,
    ) -> Result<Advanced<CudaBuffer>> {
        let mut on_host = fast.as_ref().map(|pair| self.down_pair(pair)).transpose()?;
        let (alpha, beta) = (self.down(plastic.alpha)?, self.down(plastic.beta)?);
        let plastic = Plastic { alpha: &alpha, beta: &beta };
        let change = change.map(|change| HostChange::of(self, &change)).transpose()?;
        let x = x.map(|(x, bias)| Ok((self.down(x)?, bias))).transpose()?;
        let x = x.as_ref().map(|(x, bias)| (x, *bias));
        let changed = change.as_ref().map(HostChange::change);
        let Advanced { read, norm } = CPU.fast_advance(&mut on_host, &plastic, changed, x, sizes)?;
        if change.is_some() {
            *fast = on_host.as_ref().map(|pair| self.up_pair(pair)).transpose()?;
        }
        let up = |buffer: Option<Host>| buffer.map(|buffer| self.up(&buffer)).transpose();
        Ok(Advanced { read: up(read)?, norm: up(norm)? })
    }

    fn fast_retreat(
        &self,
        fast: &mut (CudaBuffer, CudaBuffer),
        plastic: &Plastic<'_, CudaBuffer>,
        change: Option<Change<'_, CudaBuffer>>,
        g: Option<&CudaBuffer>,
        sizes: FastSizes,
    ) -> Result<Option<CudaBuffer>> {
        let mut on_host = self.down_pair(fast)?;
        let (alpha, beta) = (self.down(plastic.alpha)?, self.down(plastic.beta)?);
        let plastic = Plastic { alpha: &alpha, beta: &beta };
        let change = change.map(|change| HostChange::of(self, &change)).transpose()?;
        let g = g.map(|g| self.down(g)).transpose()?;
        let changed = change.as_ref().map(HostChange::change);
        let read = CPU.fast_retreat(&mut on_host, &plastic, changed, g.as_ref(), sizes)?;
        if change.is_some() {
            *fast = self.up_pair(&on_host)?;
        }
        read.map(|read| self.up(&read)).transpose()
    }

    fn fast_credit(
        &self,
        credit: &mut Credit<CudaBuffer>,
        plastic: &Plastic<'_, CudaBuffer>,
        decay: Option<&CudaBuffer>,
        terms: &[Term<'_, CudaBuffer>],
        change: Change<'_, CudaBuffer>,
        sizes: FastSizes,
    ) -> Result<[CudaBuffer; 3]> {
        let mut on_host = Credit {
            by_fast: credit.by_fast.as_ref().map(|pair| self.down_pair(pair)).transpose()?,
            inner: self.down(&credit.inner)?,
            by_plastic: self.down_pair(&credit.by_plastic)?,
        };
        let (alpha, beta) = (self.down(plastic.alpha)?, self.down(plastic.beta)?);
        let plastic = Plastic { alpha: &alpha, beta: &beta };
        let decay = decay.map(|decay| self.down(decay)).transpose()?;
        let down = |t: &Term<'_, CudaBuffer>| Ok((self.down(t.left)?, self.down(t.right)?, t.bias));
        let terms: Vec<(Host, Host, bool)> = terms.iter().map(down).collect::<Result<_>>()?;
        let terms: Vec<Term<'_, Host>> =
            terms.iter().map(|(left, right, bias)| Term { left, right, bias: *bias }).collect();
        let change = HostChange::of(self, &change)?;
        let [d_eta, dp, dq] =
            CPU.fast_credit(&mut on_host, &plastic, decay.as_ref(), &terms, change.change(), sizes)?;
        *credit = Credit {
            by_fast: on_host.by_fast.as_ref().map(|pair| self.up_pair(pair)).transpose()?,
            inner: self.up(&on_host.inner)?,
            by_plastic: self.up_pair(&on_host.by_plastic)?,
        };
        Ok([self.up(&d_eta)?, self.up(&dp)?, self.up(&dq)?])
    }

    fn add_inner(&self, sums: &mut CudaBuffer, a: &CudaBuffer, b: &CudaBuffer) -> Result<()> {
        let mut on_host = self.down(sums)?;
        CPU.add_inner(&mut on_host, &self.down(a)?, &self.down(b)?)?;
        *sums = self.up(&on_host)?;
        Ok(())
    }
}

impl AttentionKernels for Cuda {
    fn resize_cache(
        &self,
        pair: &KeysValues<CudaBuffer>,
        len: usize,
        from: CacheSizes,
        to: CacheSizes,
    ) -> Result<KeysValues<CudaBuffer>> {
        self.up_cache(&CPU.resize_cache(&self.down_cache(pair)?, len, from, to)?)
    }

    fn write_cache(
        &self,
        pair: &mut KeysValues<CudaBuffer>,
        qkv: &CudaBuffer,
        start: usize,
        steps: usize,
        sizes: CacheSizes,
    ) -> Result<()> {
        let mut on_host = self.down_cache(pair)?;
        CPU.write_cache(&mut on_host, &self.down(qkv)?, start, steps, sizes)?;
        *pair = self.up_cache(&on_host)?;
        Ok(())
    }

    fn read_cache(
        &self,
        pair: &KeysValues<CudaBuffer>,
        start: usize,
        steps: usize,
        sizes: CacheSizes,
    ) -> Result<CudaBuffer> {
        self.up(&CPU.read_cache(&self.down_cache(pair)?, start, steps, sizes)?)
    }

    fn copy_cache(&self, cache: &CudaBuffer, seen: Range<usize>, sizes: CacheSizes) -> Result<CudaBuffer> {
        self.up(&CPU.copy_cache(&self.down(cache)?, seen, sizes)?)
    }

    fn add_to_cache(
        &self,
        cache: &mut CudaBuffer,
        x: &CudaBuffer,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<()> {
        let mut on_host = self.down(cache)?;
        CPU.add_to_cache(&mut on_host, &self.down(x)?, seen, sizes)?;
        *cache = self.up(&on_host)?;
        Ok(())
    }

    fn attend(
        &self,
        qkv: &CudaBuffer,
        pair: &KeysValues<CudaBuffer>,
        mask: Option<&CudaBuffer>,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<(CudaBuffer, CudaBuffer)> {
        let mask = mask.map(|mask| self.down(mask)).transpose()?;
        self.up_pair(&CPU.attend(&self.down(qkv)?, &self.down_cache(pair)?, mask.as_ref(), seen, sizes)?)
    }

    fn attend_back(
        &self,
        step: AttendedStep<'_, CudaBuffer>,
        pair: &KeysValues<CudaBuffer>,
        back: &mut KeysValues<CudaBuffer>,
        grad: &CudaBuffer,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<CudaBuffer> {
        let (qkv, probabilities) = (self.down(step.qkv)?, self.down(step.probabilities)?);
        let mask = step.mask.map(|mask| self.down(mask)).transpose()?;
        let step = AttendedStep { qkv: &qkv, probabilities: &probabilities, mask: mask.as_ref() };
        let mut on_host = self.down_cache(back)?;
        let d_qkv =
            CPU.attend_back(step, &self.down_cache(pair)?, &mut on_host, &self.down(grad)?, seen, sizes)?;
        *back = self.up_cache(&on_host)?;
        self.up(&d_qkv)
    }
}

impl HistoryKernels for Cuda {
    fn uniform(&self, _: &CudaBuffer) -> Result<Option<f32>> {
        Ok(None)
    }

    fn append_change(
        &self,
        changes: &mut Changes<CudaBuffer>,
        change: Change<'_, CudaBuffer>,
        t: usize,
        capacity: usize,
        sizes: FastSizes,
    ) -> Result<()> {
        let Changes { p, q, weights } = changes;
        let mut host = Changes { p: self.down(p)?, q: self.down(q)?, weights: self.down(weights)? };
        let [eta, dp, dq] = [self.down(change.eta)?, self.down(change.p)?, self.down(change.q)?];
        CPU.append_change(&mut host, Change { eta: &eta, p: &dp, q: &dq }, t, capacity, sizes)?;
        (*p, *q, *weights) = (self.up(&host.p)?, self.up(&host.q)?, self.up(&host.weights)?);
        Ok(())
    }

    fn read_changes(
        &self,
        changes: &Changes<CudaBuffer>,
        plasticity: [f32; 2],
        x: &CudaBuffer,
        y: &mut CudaBuffer,
        t: usize,
        capacity: usize,
        sizes: FastSizes,
    ) -> Result<()> {
        let Changes { p, q, weights } = changes;
        let host = Changes { p: self.down(p)?, q: self.down(q)?, weights: self.down(weights)? };
        let mut sum = self.down(y)?;
        CPU.read_changes(&host, plasticity, &self.down(x)?, &mut sum, t, capacity, sizes)?;
        *y = self.up(&sum)?;
        Ok(())
    }
}

impl RankOneKernels for Cuda {
    fn rank_one_norms(&self, pairs: &[(&CudaBuffer, &CudaBuffer)], batch: usize) -> Result<CudaBuffer> {
        let pairs: Vec<(Host, Host)> =
            pairs.iter().map(|(p, q)| Ok((self.down(p)?, self.down(q)?))).collect::<Result<_>>()?;
        self.up(&CPU.rank_one_norms(&pairs.iter().map(|(p, q)| (p, q)).collect::<Vec<_>>(), batch)?)
    }

    fn rank_one_norms_back(
        &self,
        p: &CudaBuffer,
        q: &CudaBuffer,
        grad: &CudaBuffer,
    ) -> Result<[CudaBuffer; 2]> {
        let [dp, dq] = CPU.rank_one_norms_back(&self.down(p)?, &self.down(q)?, &self.down(grad)?)?;
        Ok([self.up(&dp)?, self.up(&dq)?])
    }
}
