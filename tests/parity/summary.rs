//! `lockstep summary`, line by line what the `torchsummary` package prints.

use serde_json::json;

use crate::lockstep::lockstep;
use crate::reference::reference;

const DEPTHS: [&str; 5] = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"];

/// Classes and pixels: usual ones, few, many, and sizes that no stride divides. 33 and 100 leave odd maps.
const SHAPES: [(u32, u32); 5] = [(10, 32), (1000, 224), (2, 33), (100, 64), (37, 100)];

/// Trailing blanks aside.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_end).collect()
}

#[test]
fn the_summary_is_torchsummarys() {
    let Some(reference) = reference() else { return };
    let mut asked = Vec::new();
    for (number, model) in DEPTHS.into_iter().enumerate() {
        for (place, (classes, size)) in SHAPES.into_iter().enumerate() {
            // Every depth and every shape comes both ways.
            asked.push((model, classes, size, (number + place) % 2 == 0));
        }
    }
    let job: Vec<_> = asked
        .iter()
        .map(|(model, classes, size, frozen)| {
            json!({ "model": model, "classes": classes, "size": size, "frozen": frozen })
        })
        .collect();
    let answer = reference.ask("summary", &json!(job));
    let expected = answer.as_array().expect("a list of texts");
    assert_eq!(expected.len(), asked.len());
    for ((model, classes, size, frozen), expected) in asked.into_iter().zip(expected) {
        let (classes, size) = (classes.to_string(), size.to_string());
        let mut arguments = vec!["summary", "--model", model, "--classes", &classes, "--image-size", &size];
        if frozen {
            arguments.extend(["--trainable", "fc.*"]);
        }
        let found = lockstep(&arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        let expected = expected.as_str().expect("a text");
        assert!(expected.lines().count() > 60, "the reference printed no table:\n{expected}");
        for (number, (ours, theirs)) in lines(&found).into_iter().zip(lines(expected)).enumerate() {
            assert_eq!(ours, theirs, "line {} of {arguments:?}", number + 1);
        }
        assert_eq!(lines(&found).len(), lines(expected).len(), "lines of {arguments:?}");
    }
    println!("{} summaries are equal\n", expected.len());
}
