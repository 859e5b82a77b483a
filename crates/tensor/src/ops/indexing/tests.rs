use super::*;
use crate::Cpu;
use crate::testing::{check, check_error, noise, tensor};

#[test]
fn values_by_hand() {
    let x = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2]);
    check(x.gather(&[2, 0, 2]), &[5.0, 6.0, 1.0, 2.0, 5.0, 6.0], [3, 2]);
    check(x.gather(&[]), &[], [0, 2]);
    check(tensor(&[7.0, 8.0], [2]).gather(&[1]), &[8.0], [1]);
    check(x.gather_last(&[1, 0, 1]), &[2.0, 3.0, 6.0], [3, 1]);
    check(Tensor::one_hot(&Cpu::new(), &[2, 0], 3), &[0.0, 0.0, 1.0, 1.0, 0.0, 0.0], [2, 3]);
}

#[test]
fn putting_adds_up_what_has_the_same_place() {
    let x = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2]);
    check(x.put(&[1, 3, 1].into(), 2, [4, 2].into()), &[0.0, 0.0, 6.0, 8.0, 0.0, 0.0, 3.0, 4.0], [4, 2]);
    check(tensor(&[1.0, 2.0], [2]).put(&[2, 2].into(), 1, [3].into()), &[0.0, 0.0, 3.0], [3]);
}

#[test]
fn one_hot_rows_times_a_table_gather() {
    let (table, classes) = (noise([5, 3]), [4, 0, 2, 2]);
    let product = Tensor::one_hot(&Cpu::new(), &classes, 5).unwrap().matmul(&table).unwrap();
    check(table.gather(&classes), &product.to_vec().unwrap(), [4, 3]);
}

#[test]
fn indices_that_are_not_there_are_named() {
    let x = noise([3, 2]);
    check_error(x.gather(&[0, 3]), "gather: index 3 is outside of an axis of length 3");
    check_error(x.gather_last(&[0, 1, 2]), "gather_last: index 2 is outside of an axis of length 2");
    check_error(
        x.gather_last(&[0]),
        "gather_last: a tensor of shape [3, 2] won't do: 1 indices were given for its rows",
    );
    check_error(
        noise([]).gather(&[0]),
        "gather: a tensor of shape [] won't do: it takes slabs of a first axis",
    );
    check_error(
        Tensor::one_hot(&Cpu::<f64>::new(), &[5], 5),
        "one_hot: index 5 is outside of an axis of length 5",
    );
}
