//! Rules that are not of this crate, by name, so that a configuration and a checkpoint can name them.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

use plastica_tensor::{Backend, Cpu};

use crate::{LayerSizes, PlasticityRule, Result, Rule, RuleError};
use devices::OnDevices;

/// Names of a plastic layer's parameters that are not the rule's.
const TAKEN: [&str; 5] = ["weight", "bias", "alpha", "beta", "log_bound"];

/// A rule that computes wherever a model may: on every backend of `plastica-tensor` that this build has. A rule that is
/// written for any backend is one.
pub trait OwnRule:
    PlasticityRule<Cpu<f32>> + PlasticityRule<Cpu<f64>> + OnDevices + Clone + Send + Sync + 'static
{
}

impl<R> OwnRule for R where
    R: PlasticityRule<Cpu<f32>> + PlasticityRule<Cpu<f64>> + OnDevices + Clone + Send + Sync + 'static
{
}

/// What the build's features add to [`OwnRule`].
#[cfg(not(feature = "cuda"))]
mod devices {
    pub trait OnDevices {}
    impl<R> OnDevices for R {}
}

#[cfg(feature = "cuda")]
mod devices {
    use crate::PlasticityRule;
    use plastica_tensor::Cuda;

    pub trait OnDevices: PlasticityRule<Cuda> {}
    impl<R: PlasticityRule<Cuda>> OnDevices for R {}
}

/// Makes the rule for one backend.
type Builder<B> = Box<dyn Fn() -> Box<dyn PlasticityRule<B>> + Send + Sync>;

/// A rule that was registered.
struct Entry {
    /// The rule's type.
    rule: TypeId,
    /// A [`Builder`] for each backend, by the backend's type.
    builders: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
}

static RULES: RwLock<BTreeMap<&'static str, Entry>> = RwLock::new(BTreeMap::new());

/// The name of a rule that was registered: that there is one says that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnName(&'static str);

impl OwnName {
    /// The name.
    pub fn name(self) -> &'static str {
        self.0
    }
}

/// Makes a rule of one's own known to this process under its [name](PlasticityRule::name): from here on configurations may
/// name it, and checkpoints that name it can be read. Registering a rule again changes nothing.
///
/// # Errors
/// [`RuleError::RuleName`] for a name that another rule has, or that is not of lower-case letters, digits and hyphens, and
/// [`RuleError::RuleParameter`] for a parameter whose name the layer or the rule has another for.
pub fn register<R: OwnRule>(rule: R) -> Result<Rule> {
    let name = PlasticityRule::<Cpu<f32>>::name(&rule);
    let refuse = |expected| Err(RuleError::RuleName { name, expected });
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(letters) {
        return refuse("it must be of lower-case letters, digits and hyphens, a letter first");
    }
    if Rule::ALL.iter().any(|rule| rule.name() == name) {
        return refuse("a rule of plastica-rules has that name");
    }
    if name == "prototypical" {
        return refuse("it must not be prototypical, which records call a network without a rule");
    }
    check_parameters(name, &rule)?;
    let mut rules = RULES.write().unwrap_or_else(PoisonError::into_inner);
    match rules.get(name) {
        Some(entry) if entry.rule == TypeId::of::<R>() => {}
        Some(_) => return refuse("another rule was registered under that name"),
        None => {
            let mut builders = HashMap::new();
            add::<Cpu<f32>, R>(&mut builders, &rule);
            add::<Cpu<f64>, R>(&mut builders, &rule);
            #[cfg(feature = "cuda")]
            add::<plastica_tensor::Cuda, R>(&mut builders, &rule);
            rules.insert(name, Entry { rule: TypeId::of::<R>(), builders });
        }
    }
    Ok(Rule::Own(OwnName(name)))
}

fn add<B: Backend, R: PlasticityRule<B> + Clone + 'static>(
    builders: &mut HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    rule: &R,
) {
    let rule = rule.clone();
    let builder: Builder<B> = Box::new(move || Box::new(rule.clone()));
    builders.insert(TypeId::of::<B>(), Box::new(builder));
}

fn check_parameters<R: OwnRule>(rule: &'static str, own: &R) -> Result<()> {
    let layer = LayerSizes { out: 2, inp: 3 };
    let mut names: Vec<&str> = TAKEN.to_vec();
    for parameter in PlasticityRule::<Cpu<f32>>::parameters(own, layer) {
        if names.contains(&parameter.name) {
            return Err(RuleError::RuleParameter { rule, name: parameter.name });
        }
        names.push(parameter.name);
    }
    Ok(())
}

/// The rule registered under a name.
pub(crate) fn find(name: &str) -> Option<Rule> {
    let rules = RULES.read().unwrap_or_else(PoisonError::into_inner);
    rules.get_key_value(name).map(|(&name, _)| Rule::Own(OwnName(name)))
}

/// A registered rule for a backend.
pub(crate) fn build<B: Backend>(OwnName(name): OwnName) -> Result<Box<dyn PlasticityRule<B>>> {
    let rules = RULES.read().unwrap_or_else(PoisonError::into_inner);
    let builder = rules.get(name).and_then(|entry| entry.builders.get(&TypeId::of::<B>()));
    match builder.and_then(|builder| builder.downcast_ref::<Builder<B>>()) {
        Some(builder) => Ok(builder()),
        None => Err(RuleError::OtherBackend { rule: name, backend: std::any::type_name::<B>() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plastica_tensor::Shape;

    use crate::{PlasticSite, RankOne, RuleParameter};

    /// A rule of this name, with a parameter of that one. `KIND` makes types of their own.
    #[derive(Clone)]
    struct Named<const KIND: usize>(&'static str, &'static str);

    impl<B: Backend, const KIND: usize> PlasticityRule<B> for Named<KIND> {
        fn name(&self) -> &'static str {
            self.0
        }

        fn parameters(&self, layer: LayerSizes) -> Vec<RuleParameter> {
            let shape = Shape::from([layer.out]);
            vec![RuleParameter { name: self.1, shape, init: crate::Init::Constant(0.5) }]
        }

        fn change(&self, _: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>> {
            Ok(None)
        }
    }

    #[test]
    fn a_registered_rule_is_known_by_its_name() {
        let before = "mine".parse::<Rule>().unwrap_err().to_string();
        for part in ["unknown rule 'mine'", "none, hebbian,", "plastica_rules::register"] {
            assert!(before.contains(part), "{before}");
        }
        let rule = register(Named::<0>("mine", "tau")).unwrap();
        assert_eq!((rule.name(), rule.to_string().as_str()), ("mine", "mine"));
        assert_eq!("mine".parse::<Rule>().unwrap(), rule);
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(json, r#""mine""#);
        assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule);
        assert_eq!(rule.parameters(LayerSizes { out: 7, inp: 1 })[0].shape[..], [7]);
        assert!(!rule.needs_internal_gradient());
        assert_eq!(rule.build::<Cpu<f64>>().unwrap().name(), "mine");
        // once more is no harm
        assert_eq!(register(Named::<0>("mine", "tau")).unwrap(), rule);
        assert!(!Rule::ALL.contains(&rule));
    }

    #[test]
    fn what_cannot_be_registered_is_refused_by_name() {
        fn check<const KIND: usize>(rule: Named<KIND>, message: &str) {
            assert_eq!(register(rule).unwrap_err().to_string(), message);
        }
        let letters = "it must be of lower-case letters, digits and hyphens, a letter first";
        check(Named::<0>("", "a"), &format!("a rule can't be named '': {letters}"));
        check(Named::<0>("My rule", "a"), &format!("a rule can't be named 'My rule': {letters}"));
        check(Named::<0>("oja", "a"), "a rule can't be named 'oja': a rule of plastica-rules has that name");
        let method = "it must not be prototypical, which records call a network without a rule";
        check(Named::<0>("prototypical", "a"), &format!("a rule can't be named 'prototypical': {method}"));
        register(Named::<0>("twice", "a")).unwrap();
        check(
            Named::<1>("twice", "a"),
            "a rule can't be named 'twice': another rule was registered under that name",
        );
        check(
            Named::<0>("greek", "alpha"),
            "rule 'greek' can't have a parameter named 'alpha': its layers have one of that name already",
        );
    }
}
