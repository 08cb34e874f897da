-- A shop, for questions.
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id),
    product TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    cents INTEGER NOT NULL
);
INSERT INTO customers VALUES (1, 'Ada', 'London'), (2, 'Blaise', 'Paris'), (3, 'Carl', 'Berlin'), (4, 'Emmy', 'Berlin');
INSERT INTO orders VALUES
    (1, 1, 'teapot', 1, 1890),
    (2, 1, 'green tea', 2, 1200),
    (3, 2, 'black tea', 1, 550),
    (4, 3, 'green tea', 5, 3000),
    (5, 4, 'two cups', 1, 2400),
    (6, 4, 'black tea', 3, 1650);
