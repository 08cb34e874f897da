//! A school with classes with students: a batch flow inside a batch flow.
//!
//! ```text
//! cargo run --example school
//! ```
#![expect(clippy::print_stdout, reason = "what it prints is what it shows")]

use flowstone::{BuildError, prelude::*};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Student {
    name: String,
    grades: Vec<f64>,
    average: f64,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Class {
    name: String,
    students: Vec<Student>,
    average: f64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct School {
    classes: Vec<Class>,
    average: f64,
}

struct Grade;

#[node]
impl Grade {
    fn prep(&self, student: &Student) -> Vec<f64> {
        student.grades.clone()
    }

    fn exec(&self, grades: &[f64]) -> f64 {
        mean(grades)
    }

    fn post(&self, student: &mut Student, _grades: Vec<f64>, average: f64) {
        student.average = average;
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |sum, value| sum + value) / values.len().max(1) as f64
}

/// One student.
fn student_flow() -> Result<Flow<Student>, BuildError> {
    let mut flow = Flow::builder("student");
    let grade = flow.add("grade", Grade);
    flow.start(grade);
    flow.build()
}

/// One class: the flow over a student, once for each; then their average.
fn class_flow() -> Result<Flow<Class>, BuildError> {
    let mut flow = Flow::builder("class");
    let students = student_flow()?
        .batch(|class: &Class| class.students.clone(), |class: &mut Class, graded| class.students = graded);
    let students = flow.add("students", students);
    let sum_up = flow.add("sum up", |class: &mut Class| {
        class.average = mean(&class.students.iter().map(|student| student.average).collect::<Vec<_>>());
    });
    flow.start(students);
    flow.route(students >> sum_up);
    flow.build()
}

/// The school: the flow over a class, once for each.
pub(crate) fn school_flow() -> Result<Flow<School>, BuildError> {
    let mut flow = Flow::builder("school");
    let classes = class_flow()?
        .batch(|school: &School| school.classes.clone(), |school: &mut School, graded| school.classes = graded);
    let classes = flow.add("classes", classes);
    let sum_up = flow.add("sum up", |school: &mut School| {
        school.average = mean(&school.classes.iter().map(|class| class.average).collect::<Vec<_>>());
    });
    flow.start(classes);
    flow.route(classes >> sum_up);
    flow.build()
}

/// The state to start with.
pub(crate) fn school() -> School {
    let student = |name: &str, grades: &[f64]| Student { name: name.to_owned(), grades: grades.to_vec(), average: 0.0 };
    let class = |name: &str, students| Class { name: name.to_owned(), students, average: 0.0 };
    let classes = vec![
        class("1a", vec![student("Alice", &[7.5, 8.0, 9.0]), student("Bob", &[8.5, 7.0, 9.5])]),
        class(
            "1b",
            vec![student("Carol", &[9.0, 6.5]), student("Dave", &[7.0, 7.0, 7.0]), student("Eve", &[10.0, 8.5])],
        ),
    ];
    School { classes, average: 0.0 }
}

fn main() -> anyhow::Result<()> {
    let mut school = school();

    school_flow()?.run(&mut school)?;

    for class in &school.classes {
        println!("class {}: {:.2}", class.name, class.average);
        for student in &class.students {
            println!("  {:<6} {:.2} of {} grades", student.name, student.average, student.grades.len());
        }
    }
    println!("school: {:.2}", school.average);
    Ok(())
}
