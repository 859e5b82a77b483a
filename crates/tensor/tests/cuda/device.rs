//! A device's memory, its name, threads that share it, and what is said where there is none.

use plastica_tensor::optim::clip_global_norm;
use plastica_tensor::{Array, Cpu, Cuda, Storage, Tensor, TensorError, dropout_mask};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::common::Draw::Any;
use crate::common::{MEMORY, array, device, draw, opened};

#[test]
fn what_is_uploaded_comes_back() {
    let Some((cuda, _memory)) = device() else { return };
    for n in [0, 1, 100_003] {
        let values = draw(Any, n as u64, n);
        let tensor = Tensor::from_vec(&cuda, values.clone(), [n]).unwrap();
        assert_eq!(tensor.to_vec().unwrap(), values);
    }
    let zeros = Array::full(&cuda, -0.0, [3]).unwrap().to_vec().unwrap();
    assert!(zeros.into_iter().all(|x| x == 0.0 && x.is_sign_negative()));
    let generators = || [ChaCha8Rng::seed_from_u64(1), ChaCha8Rng::seed_from_u64(2)];
    let by_cpu = dropout_mask(&Cpu::<f32>::new(), &mut generators(), 50, 0.4).unwrap();
    let by_cuda = dropout_mask(&cuda, &mut generators(), 50, 0.4).unwrap();
    assert_eq!(by_cuda.to_vec().unwrap(), by_cpu.to_vec().unwrap());
}

#[test]
fn writing_to_a_shared_buffer_leaves_the_other_alone() {
    let Some((cuda, _memory)) = device() else { return };
    let mut a = Array::full(&cuda, 1.0, [3000]).unwrap();
    let b = a.clone();
    a.add_assign(&b).unwrap();
    let itself = a.clone();
    a.add_assign(&itself).unwrap();
    assert_eq!([&a, &b, &itself].map(|t| t.to_vec().unwrap()[2999]), [4.0, 1.0, 2.0]);
    let mut gradients = [Some(a.clone())];
    clip_global_norm(&mut gradients, 1.0).unwrap();
    assert_eq!(a.to_vec().unwrap()[0], 4.0);
}

#[test]
fn threads_share_a_device() {
    let Some((cuda, _memory)) = device() else { return };
    let work = |seed: u64| {
        let x = Tensor::from(array(&cuda, &draw(Any, seed, 64 * 64), [64, 64].into()));
        let mut y = x.clone();
        for _ in 0..20 {
            y = y.matmul(&x).unwrap().normalize(1e-3).unwrap().add(&x).unwrap();
        }
        y.to_vec().unwrap()
    };
    let alone: Vec<_> = (0..4).map(work).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || work(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(alone == together);
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let error = Cuda::new(4096).map(|_| ()).unwrap_err();
    let TensorError::Device { device, message } = &error else { panic!("{error:?}") };
    assert_eq!(device, "cuda:4096");
    let expected = if opened().is_some() { "there is no such device" } else { "; install " };
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_device_has_its_number_and_capability_in_its_name() {
    let Some((cuda, _memory)) = device() else { return };
    assert!(cuda.name().starts_with("cuda:0 (sm_"), "{}", cuda.name());
    assert_eq!(cuda.ordinal(), 0);
    cuda.synchronize().unwrap();
}

#[test]
fn a_full_memory_is_an_error_and_what_was_given_back_is_used_again() {
    let Some(cuda) = opened() else { return };
    let _alone = MEMORY.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    let most = i32::MAX as usize;
    let error = Array::zeros(&cuda, [most + 1]).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("2147483648 elements won't do"), "{error}");
    let mut arrays = Vec::new();
    let error = loop {
        match Array::zeros(&cuda, [most]) {
            Ok(array) => arrays.push(array),
            Err(error) => break error.to_string(),
        }
        assert!(arrays.len() < 1000, "a device of more than 8 TB?");
    };
    assert!(
        error.contains("CUDA_ERROR_OUT_OF_MEMORY") && error.contains("make the batch smaller"),
        "{error}"
    );
    // the pool holds these now; buffers of another length need their memory
    drop(arrays);
    let halves: Vec<_> = (0..2).map(|_| Array::full(&cuda, 3.0, [most / 5])).collect();
    for half in halves {
        assert_eq!(Tensor::from(half.unwrap()).slice(0, most / 5 - 1, 1).unwrap().item().unwrap(), 3.0);
    }
}
