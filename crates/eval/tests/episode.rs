//! One episode step by step, and its picture.

use plastica_eval::{EpisodeTrace, EvalError, RunConfig, evaluate};
use plastica_model::{EncoderConfig, ModelConfig, ModelKind, Parameters};
use plastica_rules::Rule;
use plastica_tasks::{Copying, Dataset, EpisodeSource, FewShot, Phase, TaskConfig};
use plastica_tensor::{Array, Cpu};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const SEED: u64 = 11;

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(SEED)
}

fn small(rule: Rule) -> ModelConfig {
    ModelConfig { rule, model_dim: 8, num_heads: 2, ffn_dim: 12, num_layers: 2, ..ModelConfig::default() }
}

/// A model for a source, with fresh parameters.
fn fresh(model: ModelConfig, source: &dyn EpisodeSource) -> (ModelConfig, Parameters<Cpu<f32>>) {
    let mut run = RunConfig { model, ..RunConfig::published("copying", Rule::None).unwrap() };
    run.fit_to_source(source);
    let parameters = Parameters::init(&run.model, &Cpu::new(), &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
    (run.model, parameters)
}

fn trace(model: ModelConfig, task: TaskConfig) -> Result<EpisodeTrace, EvalError> {
    let source = task.build().unwrap();
    let (config, parameters) = fresh(model, source.as_ref());
    EpisodeTrace::record(&config, &parameters, source.as_ref(), &mut rng())
}

fn copying(delay: usize) -> TaskConfig {
    TaskConfig::Copying(Copying { delay, ..Copying::default() })
}

#[test]
fn it_is_what_an_evaluation_of_one_episode_has() {
    let source = copying(3).build().unwrap();
    for rule in Rule::ALL {
        let (config, parameters) = fresh(small(rule), source.as_ref());
        let whole = evaluate(&config, &parameters, source.as_ref(), &mut rng(), 1, &mut |_| {}).unwrap();
        let trace = EpisodeTrace::record(&config, &parameters, source.as_ref(), &mut rng()).unwrap();
        let close = |name: &str, ours: f64, theirs: f64| {
            assert!((ours - theirs).abs() <= 1e-4 * theirs.abs(), "{rule} {name}: {ours} {theirs}");
        };
        for (name, &value) in &trace.metrics {
            close(name, value, whole.metrics[name]);
        }
        assert!(trace.metrics.contains_key("loss"), "{rule}");
        match (&trace.plasticity, &whole.trace) {
            (None, None) => assert!(rule == Rule::None && trace.layers.is_empty()),
            (Some(ours), Some(theirs)) => {
                assert_eq!(ours.phases, theirs.phases);
                for ((name, ours), (_, theirs)) in ours.named().into_iter().zip(theirs.named()) {
                    assert_eq!(ours.len(), 14);
                    ours.iter().zip(theirs).for_each(|(&ours, &theirs)| close(name, ours, theirs));
                }
                for (t, &sum) in ours.plastic_norm.iter().enumerate() {
                    let layers: f64 = trace.layers.iter().map(|layer| layer.squared_norm[t]).sum();
                    close("sum over layers", layers, sum);
                }
                assert_eq!(trace.layers.len(), 4);
            }
            (ours, theirs) => panic!("{rule}: {ours:?} {theirs:?}"),
        }
    }
}

#[test]
fn attention_is_of_every_head_and_the_tables_share_it_out() {
    let trace = trace(small(Rule::Hebbian), copying(3)).unwrap();
    let heads: Vec<(usize, usize)> = trace.attention.iter().map(|head| (head.block, head.head)).collect();
    assert_eq!(heads, [(0, 0), (0, 1), (1, 0), (1, 1)]);
    for head in &trace.attention {
        assert_eq!(head.rows.len(), trace.phases.len());
        for (t, row) in head.rows.iter().enumerate() {
            assert_eq!(row.len(), t + 1);
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{row:?}");
        }
    }
    let tables = trace.tables();
    let [plasticity, attention] = &tables[..] else { panic!("{tables:?}") };
    assert_eq!((plasticity.rows.len(), attention.rows.len()), (4 + 4, 4));
    for row in &attention.rows {
        let number = |i: usize| row[i].parse::<f64>().unwrap();
        let (shares, itself, spread) = (number(1) + number(2) + number(3), number(4), number(5));
        assert!((shares - 1.0).abs() < 2e-3, "{row:?}");
        let steps = trace.phases.len() as f64;
        assert!(itself > 0.0 && itself < number(3) + 1e-3 && (1.0..=steps).contains(&spread), "{row:?}");
    }
    // η is largest where the table says
    let eta = &trace.plasticity.as_ref().unwrap().eta;
    let at: usize = plasticity.rows[0][5].parse().unwrap();
    assert!(eta.iter().all(|&other| other <= eta[at - 1]));
}

#[test]
fn images_are_read_through_their_encoder() {
    let few_shot = FewShot {
        data: Dataset::Glyphs,
        ways: 2,
        shots: 2,
        queries: 1,
        image_size: 16,
        ..FewShot::omniglot()
    };
    let encoder = Some(EncoderConfig { channels: 2, embedding_dim: 6, ..EncoderConfig::default() });
    let model = ModelConfig { encoder: encoder.clone(), ..small(Rule::Gradient) };
    let found = trace(model, TaskConfig::Omniglot(few_shot)).unwrap();
    assert_eq!(found.phases, [[Phase::Shown; 4].as_slice(), &[Phase::Recall; 2]].concat());
    assert!(found.plasticity.is_some() && found.metrics.contains_key("accuracy"));

    let prototypical = ModelConfig { kind: ModelKind::Prototypical, encoder, ..small(Rule::None) };
    let error = trace(prototypical, TaskConfig::Omniglot(few_shot)).unwrap_err().to_string();
    assert!(error.contains("model.kind is prototypical; it must be plastic"), "{error}");
}

#[test]
fn the_picture_is_xml_whatever_its_title() {
    let trace = trace(small(Rule::Hebbian), copying(3)).unwrap();
    for title in ["a & b <c> \"d\" 'e' ]]>", "tab\tnull\0bell\u{7}", "\u{FFFE}", ""] {
        let picture = trace.svg(title).unwrap();
        let page = roxmltree::Document::parse(&picture).unwrap_or_else(|e| panic!("{title:?}: {e}"));
        let cleaned = title.replace(|c: char| c.is_control() || c == '\u{FFFE}', " ");
        let shown =
            page.descendants().find(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "title")));
        assert_eq!(shown.and_then(|node| node.text()).unwrap_or_default(), cleaned);
    }
}

#[test]
fn a_model_that_is_no_longer_made_of_numbers_has_a_picture() {
    let source = copying(3).build().unwrap();
    let (config, parameters) = fresh(small(Rule::Hebbian), source.as_ref());
    for (name, value) in
        [("head.bias", f32::NAN), ("blocks.0.feed_forward.fc1.weight", 1e30), ("head.weight", 0.0)]
    {
        let named = parameters.iter().map(|(other, array)| {
            let values =
                if other == name { vec![value; array.shape().len()] } else { array.to_vec().unwrap() };
            (other.to_owned(), Array::from_vec(&Cpu::new(), values, array.shape()).unwrap())
        });
        let changed = Parameters::from_named(&config, named.collect::<Vec<_>>()).unwrap();
        let trace = EpisodeTrace::record(&config, &changed, source.as_ref(), &mut rng()).unwrap();
        assert_eq!(trace.tables().len(), 2, "{name}");
        let picture = trace.svg(name).unwrap();
        roxmltree::Document::parse(&picture).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn everything_drawn_is_inside_of_the_picture() {
    for rule in [Rule::None, Rule::Gradient] {
        let picture = trace(small(rule), copying(3)).unwrap().svg("picture").unwrap();
        let page = roxmltree::Document::parse(&picture).unwrap();
        let number = |node: roxmltree::Node<'_, '_>, name: &str| -> f64 {
            node.attribute(name).and_then(|text| text.parse().ok()).unwrap_or(0.0)
        };
        let root = page.root_element();
        let (width, height) = (number(root, "width"), number(root, "height"));
        let groups: Vec<_> =
            root.children().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "g"))).collect();
        assert_eq!(groups.len(), if rule == Rule::None { 4 } else { 4 + 1 + 4 });
        for group in groups {
            let moved = group.attribute("transform").unwrap();
            let words: Vec<f64> = moved.split(['(', ')', ' ']).filter_map(|word| word.parse().ok()).collect();
            let [left, top, scale] = words[..] else { panic!("{moved}") };
            for node in
                group.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "rect")))
            {
                let right = left + scale * (number(node, "x") + number(node, "width"));
                let bottom = top + scale * (number(node, "y") + number(node, "height"));
                assert!(right <= width && bottom <= height, "{rule}: {node:?} ends at {right}, {bottom}");
            }
        }
    }
}

#[test]
fn a_long_episode_makes_no_larger_picture_than_one_can_look_at() {
    let picture = trace(ModelConfig { num_layers: 1, ..small(Rule::Hebbian) }, copying(700))
        .unwrap()
        .svg("long")
        .unwrap();
    let page = roxmltree::Document::parse(&picture).unwrap();
    // two heads of 160 × 160 cells at most, the lower triangle of them, and some
    assert!(page.descendants().count() < 2 * 160 * 160, "{}", page.descendants().count());
}
