//! The report as a page.

use askama::Template;

use super::chart::{Chart, Drawn, swatch};
use super::style::dark_rules;
use super::{Curve, Report, TaskReport, words};
use crate::{Align, Claim, EvalError, Table, Verdict};

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    style: &'static str,
    dark: String,
    script: &'static str,
    method: &'static str,
    duration: String,
    seeds: String,
    caveats: Vec<String>,
    tally: Vec<(Verdict, usize)>,
    legend: Vec<Swatch>,
    tasks: Vec<Task<'a>>,
    claims: Vec<ClaimView<'a>>,
    missing: Vec<String>,
}

/// A rule's line and marker, with its name.
struct Swatch {
    rule: String,
    content: String,
    view_box: String,
}

struct Task<'a> {
    title: &'a str,
    about: &'static str,
    groups: Vec<RowGroup<'a>>,
    heads: Vec<(&'a str, &'static str)>,
    curves: Vec<Figure<'a>>,
    sequence: Vec<Figure<'a>>,
    baselines: Vec<(&'a str, String)>,
    settings: Vec<(&'a str, String)>,
    seeds: Vec<(&'a str, String)>,
}

/// A table's rows with the same first cell.
struct RowGroup<'a> {
    name: &'a str,
    rows: Vec<Vec<Cell<'a>>>,
}

/// A cell: what it says, its column's class, and its column's head for screens too narrow to have one.
struct Cell<'a> {
    text: &'a str,
    class: &'static str,
    head: &'a str,
}

struct Figure<'a> {
    drawn: Drawn,
    label: &'a str,
}

struct ClaimView<'a> {
    claim: &'a Claim,
    findings: Vec<FindingView<'a>>,
}

struct FindingView<'a> {
    task: &'a str,
    /// What tells it from the claim's other findings.
    label: &'a str,
    quantity: &'a str,
    verdict: Verdict,
    comparisons: Vec<[String; 4]>,
    factors: Vec<[String; 4]>,
    notes: &'a [String],
}

pub(super) fn page(report: &Report) -> Result<String, EvalError> {
    let rules = report.rules();
    let names: Vec<&str> = report.tasks.iter().map(|task| task.name.as_str()).collect();
    let legend = rules.iter().map(|rule| {
        let (content, view_box) = swatch(rule, &rules)?;
        Ok(Swatch { rule: rule.clone(), content, view_box })
    });
    let seeds = report.tasks.iter().flat_map(|task| &task.rules).map(|rule| rule.seeds.len());
    let (fewest, most) = (seeds.clone().min().unwrap_or(0), seeds.max().unwrap_or(0));
    let page = Page {
        report,
        style: include_str!("../../templates/report.css"),
        dark: dark_rules(),
        script: include_str!("../../templates/report.js"),
        method: words::METHOD,
        duration: words::duration(report.wall_seconds),
        seeds: if fewest == most { most.to_string() } else { format!("{fewest} to {most}") },
        caveats: words::caveats(&report.protocol, &report.credit, &names),
        tally: words::tally(&report.claims).into(),
        legend: legend.collect::<Result<_, EvalError>>()?,
        tasks: report.tasks.iter().map(|task| Task::new(task, &rules)).collect::<Result<_, _>>()?,
        claims: report.claims.iter().map(ClaimView::new).filter(|c| !c.findings.is_empty()).collect(),
        missing: words::missing(&report.claims),
    };
    page.render().map_err(|e| EvalError::Report { part: "page".to_owned(), message: e.to_string() })
}

impl<'a> Task<'a> {
    fn new(task: &'a TaskReport, rules: &'a [String]) -> Result<Self, EvalError> {
        let over_epochs = |curve: &'a Curve| {
            let rules_of = task.rules.iter().map(|rule| rule.rule.clone());
            let published = rules_of.filter_map(|rule| {
                let figure = task.published(&rule, &curve.metric)?;
                Some((rule, figure))
            });
            let baselines = if curve.metric == "accuracy" { &task.baselines[..] } else { &[] };
            let chart = Chart {
                curve,
                x_label: "epoch",
                logarithmic: false,
                phases: &[],
                published: published.collect(),
                baselines,
                rules,
            };
            Ok(Figure { drawn: chart.draw()?, label: &curve.label })
        };
        let over_steps = |curve: &'a Curve| {
            let chart = Chart {
                curve,
                x_label: "step of the sequence",
                logarithmic: curve.metric != "gate",
                phases: &task.phases,
                published: Vec::new(),
                baselines: &[],
                rules,
            };
            Ok(Figure { drawn: chart.draw()?, label: &curve.label })
        };
        let (heads, groups) = grouped(&task.table);
        let number = |value: f64| crate::format_number(value);
        let seeds = |seeds: &[u64]| seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        Ok(Self {
            title: &task.title,
            about: words::about(&task.name),
            heads,
            groups,
            curves: task.curves.iter().map(over_epochs).collect::<Result<_, EvalError>>()?,
            sequence: task.sequence.iter().map(over_steps).collect::<Result<_, EvalError>>()?,
            baselines: task.baselines.iter().map(|b| (b.name.as_str(), number(b.accuracy))).collect(),
            settings: task.settings.iter().map(|(key, value)| (key.as_str(), value.to_string())).collect(),
            seeds: task.rules.iter().map(|rule| (rule.rule.as_str(), seeds(&rule.seeds))).collect(),
        })
    }
}

type Heads<'a> = Vec<(&'a str, &'static str)>;

/// A table's heads and its rows by their first cell, each cell with the class of its column.
fn grouped(table: &Table) -> (Heads<'_>, Vec<RowGroup<'_>>) {
    let class = |align: Align| if align == Align::Right { "number" } else { "" };
    let heads: Heads<'_> = table.columns.iter().map(|c| (c.name.as_str(), class(c.align))).collect();
    let groups = table.rows.chunk_by(|a, b| a.first() == b.first()).map(|rows| RowGroup::new(rows, &heads));
    let groups = groups.collect();
    (heads, groups)
}

impl<'a> RowGroup<'a> {
    fn new(rows: &'a [Vec<String>], heads: &Heads<'a>) -> Self {
        let mut group = Self {
            name: rows.first().and_then(|row| row.first()).map_or("", String::as_str),
            rows: Vec::new(),
        };
        for row in rows {
            let cells = row.iter().zip(heads).skip(1);
            group.rows.push(cells.map(|(text, &(head, class))| Cell { text, class, head }).collect());
        }
        group
    }
}

impl<'a> ClaimView<'a> {
    fn new(claim: &'a Claim) -> Self {
        let view =
            |c: &crate::Comparison| [words::sides(c), words::estimate(c), words::size(c), words::test(c)];
        let tasks = claim.findings.chunk_by(|a, b| a.task == b.task).count();
        let one_task = tasks == 1 && claim.findings.len() > 1;
        let findings = words::found(claim).map(|finding| FindingView {
            task: &finding.task,
            label: if one_task { &finding.quantity } else { &finding.task },
            quantity: &finding.quantity,
            verdict: finding.verdict,
            comparisons: finding.comparisons.iter().map(view).collect(),
            factors: finding.factors.iter().map(view).collect(),
            notes: &finding.notes,
        });
        Self { claim, findings: findings.collect() }
    }
}

/// A verdict's class in the style sheet.
fn class(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Reproduced => "yes",
        Verdict::NotReproduced => "no",
        Verdict::Undecided => "open",
    }
}

fn mark(verdict: &Verdict) -> &'static str {
    words::mark(*verdict)
}
