//! How fast images come from archives and from the packed cache. Needs `PLASTICA_DATASETS`, with omniglot-minimal and
//! natural-100; run as `cargo bench -p plastica-tasks --bench loader`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use plastica_tasks::{DataFolder, ImageQuery, ImageSet, Split};

fn loader(criterion: &mut Criterion) {
    let Ok(root) = std::env::var("PLASTICA_DATASETS") else {
        println!("skipped: PLASTICA_DATASETS is unset");
        return;
    };
    let cache = tempfile::tempdir().expect("a temporary folder");
    let omniglot = ImageQuery::new("omniglot-minimal", Split::All);
    let cases = [
        ("omniglot-minimal 28x28", omniglot.clone().size(28)),
        ("omniglot-minimal 84x84", omniglot.clone().size(84)),
        ("omniglot-minimal 105x105", omniglot),
        ("natural-100 32x32", ImageQuery::new("natural-100", Split::All)),
    ];
    for (name, query) in cases {
        if !DataFolder::at(&root).available(&query.set) {
            println!("skipped: {name} is not in {root}");
            continue;
        }
        // A new data folder each time, as an old one remembers what it has opened.
        let archives = || DataFolder::at(&root).open(&query).expect(name);
        let packed = || DataFolder::at(&root).with_cache(cache.path()).open(&query).expect(name);
        let images = |set: &ImageSet| Throughput::Elements(set.len() as u64);
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10).throughput(images(&packed()));
        group.bench_function("archives", |bencher| bencher.iter(|| black_box(archives())));
        group.bench_function("packed", |bencher| bencher.iter(|| black_box(packed())));
        group.finish();
    }
}

criterion_group!(benches, loader);
criterion_main!(benches);
