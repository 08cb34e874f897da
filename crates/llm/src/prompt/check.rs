//! Looks for names that a template uses and a type has not: a walk over the template's syntax tree, with the shapes of
//! the names in scope.
//!
//! A value of unknown shape is [`Shape::Any`], which has every name: a fault is certain, no fault is not. See
//! `docs/decisions/0014-a-prompt-is-checked-by-its-tree.md`.

use std::collections::BTreeMap;

use minijinja::{
    Environment, ErrorKind,
    machinery::{
        Span,
        ast::{CallArg, Expr, Macro, Spanned, Stmt},
        parse,
    },
    syntax::SyntaxConfig,
};

use super::{PromptFault, shape::Shape, similar::similar};

static ANY: Shape = Shape::Any;

/// Returns every fault of a template that parses, in the order of the lines.
pub(super) fn faults(source: &str, name: &str, env: &Environment<'_>, root: &Shape) -> Vec<PromptFault> {
    let tree = match parse(source, name, SyntaxConfig::default()) {
        Ok(tree) => tree,
        Err(error) => return super::PromptError::from_engine(&error).faults,
    };
    let mut walk = Walk { env, root, scopes: vec![BTreeMap::new()], faults: Vec::new() };
    walk.statement(&tree);
    walk.faults.sort_by_key(|fault| fault.line);
    walk.faults.dedup();
    walk.faults
}

struct Walk<'s, 't> {
    env: &'s Environment<'s>,
    root: &'s Shape,
    /// Innermost last. `if` opens none, as in the engine.
    scopes: Vec<BTreeMap<&'t str, &'s Shape>>,
    faults: Vec<PromptFault>,
}

impl<'s, 't> Walk<'s, 't> {
    fn statements(&mut self, statements: &'t [Stmt<'t>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &'t Stmt<'t>) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emit) => self.all([&emit.expr]),
            Stmt::ForLoop(each) => {
                let items = self.shape(&each.iter);
                // `loop(…)` goes through the body with items of another kind.
                let item = if each.recursive { &ANY } else { items.element() };
                self.scoped(|walk| {
                    walk.bind(&each.target, item);
                    walk.set("loop", &ANY);
                    walk.all(&each.filter_expr);
                    walk.statements(&each.body);
                });
                self.scoped(|walk| walk.statements(&each.else_body));
            }
            Stmt::IfCond(choice) => {
                self.shape(&choice.expr);
                self.statements(&choice.true_body);
                self.statements(&choice.false_body);
            }
            Stmt::WithBlock(with) => self.scoped(|walk| {
                for (target, value) in &with.assignments {
                    let shape = walk.shape(value);
                    walk.bind(target, shape);
                }
                walk.statements(&with.body);
            }),
            Stmt::Set(set) => {
                let shape = self.shape(&set.expr);
                let shape = self.either(&set.target, shape);
                self.bind(&set.target, shape);
            }
            Stmt::SetBlock(set) => {
                self.all(&set.filter);
                self.scoped(|walk| walk.statements(&set.body));
                self.bind(&set.target, &ANY);
            }
            Stmt::AutoEscape(block) => self.scoped(|walk| walk.statements(&block.body)),
            Stmt::FilterBlock(block) => {
                self.shape(&block.filter);
                self.scoped(|walk| walk.statements(&block.body));
            }
            Stmt::Macro(it) => self.definition(it),
            Stmt::CallBlock(block) => {
                self.called(&block.call.expr, &block.call.args);
                self.definition(&block.macro_decl);
            }
            Stmt::Do(it) => {
                self.called(&it.call.expr, &it.call.args);
            }
            _ => {}
        }
    }

    fn definition(&mut self, it: &'t Spanned<Macro<'t>>) {
        self.set(it.name, &ANY);
        self.all(&it.defaults);
        self.scoped(|walk| {
            walk.set("caller", &ANY);
            it.args.iter().for_each(|arg| walk.bind(arg, &ANY));
            walk.statements(&it.body);
        });
    }

    /// Looks through expressions.
    fn all(&mut self, exprs: impl IntoIterator<Item = &'t Expr<'t>>) {
        for expr in exprs {
            self.shape(expr);
        }
    }

    /// Looks through an expression, and returns the known shape of its value.
    fn shape(&mut self, expr: &'t Expr<'t>) -> &'s Shape {
        match expr {
            Expr::Var(var) => self.variable(var.id, var.span()),
            Expr::GetAttr(it) => {
                let shape = self.shape(&it.expr);
                self.field(shape, it.name, it.span())
            }
            Expr::GetItem(it) => {
                let shape = self.shape(&it.expr);
                self.shape(&it.subscript_expr);
                let key = it.subscript_expr.as_const();
                match key.as_ref().and_then(|key| key.as_str()) {
                    Some(name) => self.field(shape, name, it.span()),
                    None => shape.element(),
                }
            }
            Expr::Slice(it) => {
                self.all([&it.start, &it.stop, &it.step].into_iter().flatten());
                self.shape(&it.expr)
            }
            Expr::Filter(it) => {
                let shape = it.expr.as_ref().map_or(&ANY, |expr| self.shape(expr));
                self.arguments(&it.args);
                self.filter(it.name, it.span());
                match it.name {
                    "sort" | "reverse" | "unique" | "list" => shape,
                    "first" | "last" => shape.element(),
                    _ => &ANY,
                }
            }
            Expr::Test(it) => {
                self.shape(&it.expr);
                self.arguments(&it.args);
                self.test(it.name, it.span());
                &ANY
            }
            Expr::Call(it) => self.called(&it.expr, &it.args),
            _ => {
                self.parts(expr);
                &ANY
            }
        }
    }

    /// Looks through the parts of an expression of whose value nothing is known.
    fn parts(&mut self, expr: &'t Expr<'t>) {
        match expr {
            Expr::UnaryOp(it) => self.all([&it.expr]),
            Expr::BinOp(it) => self.all([&it.left, &it.right]),
            Expr::Compare(it) => self.all([&it.expr].into_iter().chain(it.ops.iter().map(|op| &op.expr))),
            Expr::IfExpr(it) => self.all([&it.test_expr, &it.true_expr].into_iter().chain(&it.false_expr)),
            Expr::List(it) => self.all(&it.items),
            Expr::Tuple(it) => self.all(&it.items),
            Expr::Map(it) => self.all(it.keys.iter().chain(&it.values)),
            _ => {}
        }
    }

    /// Looks through a call. The name of a method is no field.
    fn called(&mut self, callee: &'t Expr<'t>, args: &'t [CallArg<'t>]) -> &'s Shape {
        match callee {
            Expr::GetAttr(method) => self.shape(&method.expr),
            other => self.shape(other),
        };
        self.arguments(args);
        &ANY
    }

    fn arguments(&mut self, args: &'t [CallArg<'t>]) {
        for arg in args {
            let (CallArg::Pos(expr) | CallArg::Kwarg(_, expr) | CallArg::PosSplat(expr) | CallArg::KwargSplat(expr)) =
                arg;
            self.shape(expr);
        }
    }

    fn variable(&mut self, name: &'t str, span: Span) -> &'s Shape {
        if let Some(shape) = self.scopes.iter().rev().find_map(|scope| scope.get(name)) {
            return shape;
        }
        if self.env.globals().any(|(global, _)| global == name) {
            return &ANY;
        }
        self.field(self.root, name, span)
    }

    /// The shape of what `set` gives a name. Where it is another name's already, it may be either: an `if` may be
    /// around the `set`, and opens no scope.
    fn either(&self, target: &Expr<'t>, shape: &'s Shape) -> &'s Shape {
        let Expr::Var(var) = target else { return shape };
        let in_scope = self.scopes.iter().rev().find_map(|scope| scope.get(var.id).copied());
        let was = in_scope.or_else(|| match self.root {
            Shape::Struct { fields, .. } => fields.iter().find(|(field, _)| *field == var.id).map(|(_, shape)| shape),
            _ => None,
        });
        if was.is_some_and(|was| !std::ptr::eq(was, shape)) { &ANY } else { shape }
    }

    fn field(&mut self, shape: &'s Shape, name: &str, span: Span) -> &'s Shape {
        let Shape::Struct { name: of, fields } = shape else { return &ANY };
        if let Some((_, shape)) = fields.iter().find(|(field, _)| *field == name) {
            return shape;
        }
        let hint = match similar(name, fields.iter().map(|(field, _)| *field)) {
            Some(like) => format!("did you mean `{like}`?"),
            None => Shape::list(fields),
        };
        let whose = if of.is_empty() { "the prompt".to_owned() } else { format!("`{of}`") };
        self.fault(span, format!("{whose} has no `{name}`; {hint}"));
        &ANY
    }

    fn filter(&mut self, name: &str, span: Span) {
        let applied = self.env.empty_state().apply_filter(name, &[]);
        if applied.is_err_and(|error| error.kind() == ErrorKind::UnknownFilter) {
            self.fault(span, format!("there is no filter `{name}`"));
        }
    }

    fn test(&mut self, name: &str, span: Span) {
        let performed = self.env.empty_state().perform_test(name, &[]);
        if performed.is_err_and(|error| error.kind() == ErrorKind::UnknownTest) {
            self.fault(span, format!("there is no test `{name}`"));
        }
    }

    fn fault(&mut self, span: Span, message: String) {
        self.faults.push(PromptFault { line: span.start_line.into(), message });
    }

    fn bind(&mut self, target: &'t Expr<'t>, shape: &'s Shape) {
        match target {
            Expr::Var(var) => self.set(var.id, shape),
            Expr::List(it) => it.items.iter().for_each(|item| self.bind(item, &ANY)),
            Expr::Tuple(it) => it.items.iter().for_each(|item| self.bind(item, &ANY)),
            _ => {}
        }
    }

    /// Gives a name a shape; one that had another, perhaps in the other branch of an `if`, may be either.
    fn set(&mut self, name: &'t str, shape: &'s Shape) {
        let Some(scope) = self.scopes.last_mut() else { return };
        let was = scope.insert(name, shape);
        if was.is_some_and(|was| !std::ptr::eq(was, shape)) {
            scope.insert(name, &ANY);
        }
    }

    fn scoped(&mut self, walk: impl FnOnce(&mut Self)) {
        self.scopes.push(BTreeMap::new());
        walk(self);
        self.scopes.pop();
    }
}
