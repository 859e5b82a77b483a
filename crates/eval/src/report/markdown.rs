//! The report as text.

use super::{Report, words};
use crate::{Column, Protocol, Table};

pub(super) fn text(report: &Report) -> String {
    let mut parts = vec![format!(
        "# plastica: {} protocol, {} credit\n\n{} runs, {} failed, {}. Figures are in report.html.\n",
        report.protocol,
        report.credit,
        report.runs,
        report.failed,
        words::duration(report.wall_seconds)
    )];
    let tasks: Vec<&str> = report.tasks.iter().map(|task| task.name.as_str()).collect();
    let caveats = words::caveats(&report.protocol, &report.credit, &tasks);
    parts.push(format!("## How to read it\n\n- {}\n", caveats.join("\n- ")));
    parts.push(format!("## Results\n\n{}", results(report)));
    parts.push(format!("## Claims\n\n{}\n\n{}", words::METHOD, claims(report)));
    parts.push(format!("## Settings\n\n{}", settings(report)));
    parts.push(machine(report));
    parts.join("\n")
}

pub(super) fn summary(report: &Report) -> String {
    format!("{}\n{}", results(report), claims_table(report))
}

fn results(report: &Report) -> String {
    let published = if report.credit == "detached" { "" } else { "; the published runs are detached" };
    let table = |task: &super::TaskReport| {
        let title = format!(
            "{} ({} protocol, {} credit{published})",
            task.table.title, report.protocol, report.credit
        );
        let mut text = Table { title, ..task.table.clone() }.to_string();
        for baseline in &task.baselines {
            text += &format!(
                "\nbaseline {}: accuracy {}\n",
                baseline.name,
                crate::format_number(baseline.accuracy)
            );
        }
        text
    };
    report.tasks.iter().map(table).collect::<Vec<_>>().join("\n")
}

fn claims_table(report: &Report) -> Table {
    let columns = ["claim", "task", "quantity", "verdict", "estimate [95 %]", "g", "compared", "test"];
    let mut rows = Vec::new();
    for claim in &report.claims {
        for finding in words::found(claim) {
            for (i, comparison) in finding.comparisons.iter().enumerate() {
                let once = |text: String| if i == 0 { text } else { String::new() };
                rows.push(vec![
                    once(claim.name.to_owned()),
                    once(finding.task.clone()),
                    once(finding.quantity.clone()),
                    once(finding.verdict.to_string()),
                    words::estimate(comparison),
                    words::size(comparison),
                    words::sides(comparison),
                    words::test(comparison),
                ]);
            }
        }
    }
    let title = if report.protocol == Protocol::Converged.name() { "claims" } else { "the paper’s claims" };
    Table { title: title.to_owned(), columns: columns.map(Column::left).into(), rows }
}

fn claims(report: &Report) -> String {
    let mut text = claims_table(report).to_string();
    for claim in &report.claims {
        text += &format!("\n**{}**: {} {}\n", claim.name, claim.statement, claim.measure);
        for finding in words::found(claim) {
            for note in &finding.notes {
                text += &format!("- {}: {note}.\n", finding.task);
            }
        }
    }
    let missing = words::missing(&report.claims);
    if !missing.is_empty() {
        text += &format!("\nNot run: {}.\n", missing.join("; "));
    }
    text
}

fn settings(report: &Report) -> String {
    let mut text = String::new();
    for task in &report.tasks {
        let all: Vec<String> =
            task.settings.iter().map(|(key, value)| format!("`{key} = {value}`")).collect();
        let seeds: Vec<String> =
            task.rules.iter().map(|rule| format!("{} {:?}", rule.rule, rule.seeds)).collect();
        text += &format!("- **{}**: {}. Seeds: {}.\n", task.title, all.join(", "), seeds.join(", "));
    }
    text
}

fn machine(report: &Report) -> String {
    let (machine, versions) = (&report.machine, &report.versions);
    let devices = match &report.devices[..] {
        [] => String::new(),
        devices => format!(" Computed by {}.", devices.join(", ")),
    };
    format!(
        "## Machine\n\n{}, {} threads, {}; {}.{devices} plastica {}, {}.\n",
        machine.processor,
        machine.cores,
        machine.architecture,
        machine.system,
        versions.plastica,
        versions.rustc
    )
}
