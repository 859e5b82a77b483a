//! What the three forms of the report say.

use std::collections::BTreeSet;

use plastica_eval::{Report, RunRecord, RunStatus};
use scraper::{Html, Selector};
use serde_json::Value;

use crate::support::{RULES, machine, record, report, study};

/// The page as a browser takes it apart, which must find nothing to complain of.
#[track_caller]
fn parsed(report: &Report) -> Html {
    let page = Html::parse_document(&report.html().unwrap());
    assert!(page.errors.is_empty(), "{:?}", page.errors);
    page
}

fn select<'a>(page: &'a Html, selector: &str) -> Vec<scraper::ElementRef<'a>> {
    page.select(&Selector::parse(selector).unwrap()).collect()
}

fn texts(page: &Html, selector: &str) -> Vec<String> {
    select(page, selector).iter().map(|e| e.text().collect::<String>().trim().to_owned()).collect()
}

#[test]
fn the_page_has_every_task_rule_and_claim() {
    let report = report(&study());
    let page = parsed(&report);
    assert_eq!(texts(&page, ".task h2"), ["copying", "omniglot"]);
    assert_eq!(texts(&page, ".results tbody th"), [RULES, RULES].concat());
    let with_findings = report.claims.iter().filter(|c| c.findings.iter().any(|f| f.was_run()));
    let names: Vec<&str> = with_findings.map(|c| c.name).collect();
    assert_eq!(texts(&page, "article code"), names);
    assert_eq!(names.len(), 5, "all but cue-reward's");
    let html = page.html();
    for claim in &report.claims {
        assert!(html.contains(claim.name), "{} is neither found nor said to be missing", claim.name);
    }
    // loss, training loss and two accuracies; loss and accuracy; four along each sequence
    assert_eq!(select(&page, "figure svg").len(), 4 + 2 + 8);
}

#[test]
fn figures_are_named_and_the_page_needs_no_other_file() {
    let page = parsed(&report(&study()));
    for svg in select(&page, "figure svg") {
        assert_eq!(svg.attr("role"), Some("img"));
        assert!(svg.attr("aria-label").unwrap().contains("hebbian from "), "{:?}", svg.attr("aria-label"));
        assert!(svg.attr("viewBox").is_some() && svg.attr("width").is_none());
    }
    assert_eq!(select(&page, "img, script[src], link[rel=stylesheet], iframe").len(), 0);
    let html = page.html();
    let links: BTreeSet<&str> =
        html.split("https://").skip(1).map(|rest| &rest[..rest.find('"').unwrap()]).collect();
    assert_eq!(links, BTreeSet::from(["arxiv.org/abs/2510.21908"]));
}

#[test]
fn a_rule_has_one_colour_in_every_figure() {
    let page = parsed(&report(&study()));
    let colours = |figure: &scraper::ElementRef<'_>| -> Vec<(String, String)> {
        let hover: Value = serde_json::from_str(figure.attr("data-hover").unwrap()).unwrap();
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        hover["series"].as_array().unwrap().iter().map(|s| (text(&s["rule"]), text(&s["light"]))).collect()
    };
    let figures = select(&page, "figure");
    let all: BTreeSet<(String, String)> = figures.iter().flat_map(colours).collect();
    assert_eq!(all.len(), RULES.len(), "{all:?}");
    for figure in figures {
        for (rule, colour) in colours(&figure) {
            assert!(figure.inner_html().contains(&colour), "{rule} is not drawn in {colour}");
        }
    }
}

#[test]
fn images_stand_beside_their_baselines() {
    let report = report(&study());
    let baselines: Vec<(&str, f64)> =
        report.tasks[1].baselines.iter().map(|b| (b.name.as_str(), (b.accuracy * 100.0).round())).collect();
    assert_eq!(baselines, [("chance", 20.0), ("nearest neighbour", 35.0), ("prototypical", 75.0)]);
    let said = texts(&parsed(&report), ".baselines").join("");
    for part in ["chance 0.2000", "nearest neighbour 0.3500", "prototypical 0.7500"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(report.markdown().contains("baseline prototypical: accuracy 0.7500"));
}

#[test]
fn the_text_has_tables_claims_settings_and_machine() {
    let text = report(&study()).markdown();
    for part in [
        "copying: mean ± population standard deviation (paper protocol, detached credit)",
        "| hebbian-beats-none ",
        "nor the gate’s own weights are trained",
        "Welch’s t",
        "`training.lr = 0.5`",
        "hebbian [2000, 2001, 2002]",
        "Abacus 7 & sons, 10 threads, beads; Wood 1.0",
        env!("CARGO_PKG_VERSION"),
        "rustc 1.",
        "1 min 2 s",
        "Not run: hebbian-beats-none on regression, cifar-fs",
    ] {
        assert!(text.contains(part), "{part:?} is missing from\n{text}");
    }
    assert!(text.contains(&report(&study()).summary().lines().next().unwrap().to_owned()));
}

#[test]
fn places_on_this_machine_are_not_told() {
    let report = report(&study());
    let json = serde_json::to_string(&report).unwrap();
    for text in [report.html().unwrap(), report.markdown(), json] {
        assert!(!text.contains("/somewhere"), "{text}");
    }
}

#[test]
fn hostile_names_are_text() {
    let hostile = r#"</script><img src=x onerror="alert(1)">'&{{7*7}}"#;
    let mut records = study();
    records.push(record(hostile, hostile, 1, &[(hostile, 0.5)]));
    let reason = format!("because {hostile}");
    records.push(RunRecord { status: RunStatus::Failed { reason }, ..record(hostile, hostile, 2, &[]) });
    let mut machine = machine();
    machine.processor = hostile.to_owned();
    let page = parsed(&Report::new(&records, machine, 1.0).unwrap());
    assert_eq!(select(&page, "img").len(), 0);
    assert_eq!(select(&page, "script").len(), 1);
    assert!(select(&page, "*").iter().all(|e| e.value().attrs().all(|(name, _)| !name.starts_with("on"))));
    assert_eq!(texts(&page, ".task h2")[2], hostile);
    assert!(texts(&page, "footer").concat().contains(hostile));
    assert!(texts(&page, ".results td").iter().any(|cell| cell.contains("because </script>")));
    let label = select(&page, "figure svg").last().unwrap().attr("aria-label").unwrap().to_owned();
    assert!(label.contains(hostile), "{label}");
}

#[test]
fn a_report_of_failures_is_a_report() {
    let failed = |seed| RunRecord {
        status: RunStatus::Failed { reason: "diverged at step 1".to_owned() },
        history: Vec::new(),
        ..record("copying", "hebbian", seed, &[("loss", f64::NAN)])
    };
    let report = report(&[failed(1), failed(2)]);
    assert_eq!((report.runs, report.failed), (2, 2));
    assert!(texts(&parsed(&report), ".results td").concat().contains("failed: 2 of 2"));
    assert!(Report::new(&[], machine(), 0.0).is_err());
}

#[test]
fn one_epoch_and_one_seed_make_figures_too() {
    let mut one = record("regression", "none", 1, &[("loss", 0.5), ("query_loss", 0.0)]);
    one.history.truncate(1);
    assert_eq!(select(&parsed(&report(&[one])), "figure svg").len(), 2);
}

/// Programs read `report.json`: a field that comes, goes or changes its name changes the format's number.
#[test]
fn the_json_has_these_fields() {
    let json = serde_json::to_value(report(&study())).unwrap();
    let check = |value: &Value, want: &str| {
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.join(" "), want);
    };
    assert_eq!(json["format"], "plastica-report 2");
    check(&json, "claims credit devices failed format machine protocol runs tasks versions wall_seconds");
    check(&json["machine"], "architecture cores processor system");
    check(&json["versions"], "plastica rustc");
    let task = &json["tasks"][0];
    check(task, "baselines curves name phases rules sequence settings");
    check(&task["rules"][0], "failures metrics rule seeds");
    let loss = &task["rules"][0]["metrics"]["loss"];
    check(loss, "difference ours published");
    check(&loss["ours"], "ci95 count mean population_sd sample_sd standard_error");
    check(&loss["published"], "mean population_sd runs");
    check(&task["sequence"][0], "label metric series");
    check(&task["sequence"][0]["series"][0]["points"][0], "high low mean x");
    check(&json["tasks"][1]["baselines"][0], "accuracy name");
    let claim = &json["claims"][0];
    check(claim, "findings measure name statement");
    check(&claim["findings"][0], "comparisons factors notes quantity task verdict");
    let comparison = &claim["findings"][0]["comparisons"][0];
    check(comparison, "assertion estimate first hedges_g interval margin scale second side test verdict");
    check(&comparison["first"], "mean name runs");
    assert_eq!((&comparison["test"], &comparison["verdict"]), (&"welch-t".into(), &"reproduced".into()));
}
