//! The page in a browser, if the system has one: Chromium, driven over its debugging protocol.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headless_chrome::protocol::cdp::Emulation::{SetDeviceMetricsOverride, SetScriptExecutionDisabled};
use headless_chrome::protocol::cdp::types::Event;
use headless_chrome::{Browser, LaunchOptions, Tab};
use plastica_eval::{Protocol, RunRecord, Study, execute_all};
use plastica_rules::{Credit, Rule};
use plastica_tensor::Cpu;
use serde_json::Value;

use crate::support::{report, study};

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Widths of a desktop's window and of a phone, in CSS pixels.
const WIDTHS: [u32; 2] = [1280, 390];

/// The system's browser.
fn browser_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    NAMES.iter().find_map(|name| folders.iter().map(|f| f.join(name)).find(|file| file.is_file()))
}

/// Runs of a few episodes, and records of what is not run here.
fn records(folder: &Path) -> Vec<RunRecord> {
    let study_of = Study {
        protocol: Protocol::Smoke,
        tasks: ["cue-reward", "regression"].map(String::from).into(),
        data: Vec::new(),
        preset: None,
        rules: Rule::PUBLISHED.to_vec(),
        credits: vec![Credit::Detached],
        seeds: 2,
        quick: false,
    };
    let mut records = execute_all(study_of.plan().unwrap(), &Cpu::<f32>::new(), folder, &|_, _| ()).unwrap();
    records.extend(study());
    records
}

fn launch(path: PathBuf) -> Browser {
    let options = LaunchOptions::default_builder()
        .path(Some(path))
        // a sandbox takes rights that a container may not have; the page is our own file
        .sandbox(false)
        .idle_browser_timeout(Duration::from_secs(120))
        .args(vec![OsStr::new("--disable-gpu"), OsStr::new("--disable-dev-shm-usage")])
        .build()
        .unwrap();
    Browser::new(options).unwrap()
}

/// Opens the page at a width, and gives what the console said.
fn open(tab: &Tab, page: &Path, width: u32, scripts: bool) -> Arc<Mutex<Vec<String>>> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let hear = {
        let said = Arc::clone(&said);
        move |event: &Event| match event {
            Event::LogEntryAdded(e) => said.lock().unwrap().push(format!("{:?}", e.params.entry)),
            Event::RuntimeExceptionThrown(e) => said.lock().unwrap().push(format!("{:?}", e.params)),
            Event::RuntimeConsoleAPICalled(e) => said.lock().unwrap().push(format!("{:?}", e.params)),
            _ => {}
        }
    };
    tab.add_event_listener(Arc::new(hear)).unwrap();
    tab.enable_log().unwrap().enable_runtime().unwrap();
    tab.call_method(SetScriptExecutionDisabled { value: !scripts }).unwrap();
    tab.call_method(SetDeviceMetricsOverride {
        width,
        height: 900,
        device_scale_factor: 1.0,
        mobile: width < 600,
        scale: None,
        screen_width: None,
        screen_height: None,
        position_x: None,
        position_y: None,
        dont_set_visible_size: None,
        screen_orientation: None,
        viewport: None,
        display_feature: None,
        device_posture: None,
    })
    .unwrap();
    tab.navigate_to(&format!("file://{}", page.display())).unwrap().wait_until_navigated().unwrap();
    said
}

fn ask(tab: &Tab, expression: &str) -> Value {
    let text = tab.evaluate(&format!("JSON.stringify({expression})"), false).unwrap().value.unwrap();
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

#[test]
fn the_page_stands_on_a_desktop_and_on_a_phone_with_scripts_and_without() {
    let Some(path) = browser_path() else {
        eprintln!("skipped: none of {} is in PATH", NAMES.join(", "));
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let report = report(&records(folder.path()));
    let files = report.write(folder.path()).unwrap();
    let page = files[0].canonicalize().unwrap();
    let figures: usize = report.tasks.iter().map(|task| task.curves.len() + task.sequence.len()).sum();
    let browser = launch(path);
    for width in WIDTHS {
        for scripts in [true, false] {
            let label = format!("{width} wide, scripts {scripts}");
            let tab = browser.new_tab().unwrap();
            let said = open(&tab, &page, width, scripts);
            let scrolled = ask(&tab, "[document.scrollingElement.scrollWidth, innerWidth]");
            assert_eq!(scrolled[1], width, "{label}");
            assert!(scrolled[0].as_u64() <= scrolled[1].as_u64(), "{label}: it scrolls sideways, {scrolled}");
            let boxes = "[...document.querySelectorAll('figure svg')].map(svg => { \
                const outer = svg.getBoundingClientRect(), inner = svg.getBBox(); \
                return [outer.width, outer.height, inner.width, inner.height] })";
            let boxes = ask(&tab, boxes);
            assert_eq!(boxes.as_array().unwrap().len(), figures, "{label}");
            for sizes in boxes.as_array().unwrap() {
                assert!(
                    sizes.as_array().unwrap().iter().all(|s| s.as_f64() > Some(100.0)),
                    "{label}: {sizes}"
                );
            }
            // the largest letters that a figure's marks are set in may not vanish on a phone
            let letters = "Math.min(...[...document.querySelectorAll('figure svg text')]\
                .map(text => text.getBoundingClientRect().height))";
            assert!(ask(&tab, letters).as_f64() > Some(8.0), "{label}: {}", ask(&tab, letters));
            if scripts {
                hover(&tab, &label);
            }
            assert_eq!(*said.lock().unwrap(), Vec::<String>::new(), "{label}");
            tab.close(false).unwrap();
        }
    }
}

/// The pointer over the first figure along a sequence shows a value for each rule, inside the page.
fn hover(tab: &Tab, label: &str) {
    let point = "(() => { const svg = document.querySelector('svg[aria-label*=\"by step of the sequence\"]'); \
        svg.scrollIntoView({ behavior: 'instant' }); const box = svg.getBoundingClientRect(); \
        svg.dispatchEvent(new PointerEvent('pointermove', \
            { bubbles: true, clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 })); \
        const tip = document.querySelector('.tip'); const at = tip.getBoundingClientRect(); \
        return [tip.innerText, at.left, at.right, document.scrollingElement.scrollWidth, innerWidth] })()";
    let tip = ask(tab, point);
    let words = tip[0].as_str().unwrap();
    assert!(
        words.contains("step") && words.contains("hebbian") && words.contains("gradient"),
        "{label}: {words}"
    );
    assert!(tip[1].as_f64() >= Some(0.0) && tip[2].as_f64() <= tip[4].as_f64(), "{label}: {tip}");
    assert!(tip[3].as_f64() <= tip[4].as_f64(), "{label}: {tip}");
}
