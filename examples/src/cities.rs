//! Some dozens of cities, where they are, and how to find one by a name as people type it.

/// A city, with what Open-Meteo's geocoding says of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct City {
    /// Its English name.
    pub name: &'static str,
    /// The country's English name.
    pub country: &'static str,
    /// The country's ISO 3166-1 code of two letters.
    pub country_code: &'static str,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Metres above the sea.
    pub elevation: f64,
    /// The IANA name of its time zone.
    pub timezone: &'static str,
}

/// Returns the name in small letters without accents, for comparing: `São Paulo` and `sao paulo` are the same.
#[must_use]
pub fn folded(name: &str) -> String {
    name.trim().to_lowercase().chars().map(without_accent).collect()
}

/// Returns the city whose name is the least number of typing mistakes away from `name`, if it is near enough to mean
/// it.
///
/// # Example
///
/// ```
/// use flowstone_examples::cities::closest;
///
/// assert_eq!(closest("Lodnon"), Some("London"));
/// assert_eq!(closest("Atlantis"), None);
/// ```
#[must_use]
pub fn closest(name: &str) -> Option<&'static str> {
    let name = folded(name);
    let tolerated = (name.chars().count() / 3).clamp(1, 3);
    let near = CITIES.iter().map(|city| (mistakes(&name, &folded(city.name)), city.name));
    near.filter(|(mistakes, _)| *mistakes <= tolerated).min_by_key(|(mistakes, _)| *mistakes).map(|(_, name)| name)
}

/// The Levenshtein distance: how many letters to insert, drop or replace.
fn mistakes(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.chars().enumerate() {
        let mut left_above = above[0];
        above[0] = row + 1;
        for (column, to) in b.iter().enumerate() {
            let replaced = left_above + usize::from(from != *to);
            left_above = above[column + 1];
            above[column + 1] = replaced.min(above[column] + 1).min(left_above + 1);
        }
    }
    above[b.len()]
}

fn without_accent(letter: char) -> char {
    match letter {
        'á' | 'à' | 'â' | 'ã' | 'ä' | 'å' => 'a',
        'ç' => 'c',
        'é' | 'è' | 'ê' | 'ë' => 'e',
        'í' | 'ì' | 'î' | 'ï' => 'i',
        'ñ' => 'n',
        'ó' | 'ò' | 'ô' | 'õ' | 'ö' | 'ø' => 'o',
        'ú' | 'ù' | 'û' | 'ü' => 'u',
        other => other,
    }
}

const fn city(
    (name, country, country_code): (&'static str, &'static str, &'static str),
    (latitude, longitude, elevation): (f64, f64, f64),
    timezone: &'static str,
) -> City {
    City { name, country, country_code, latitude, longitude, elevation, timezone }
}

/// The cities that are known without a network.
pub const CITIES: &[City] = &[
    city(("Accra", "Ghana", "GH"), (5.55602, -0.1969, 61.0), "Africa/Accra"),
    city(("Amsterdam", "Netherlands", "NL"), (52.37403, 4.88969, 13.0), "Europe/Amsterdam"),
    city(("Athens", "Greece", "GR"), (37.98376, 23.72784, 70.0), "Europe/Athens"),
    city(("Auckland", "New Zealand", "NZ"), (-36.84853, 174.76349, 26.0), "Pacific/Auckland"),
    city(("Bangkok", "Thailand", "TH"), (13.75398, 100.50144, 12.0), "Asia/Bangkok"),
    city(("Barcelona", "Spain", "ES"), (41.38879, 2.15899, 47.0), "Europe/Madrid"),
    city(("Beijing", "China", "CN"), (39.9075, 116.39723, 49.0), "Asia/Shanghai"),
    city(("Berlin", "Germany", "DE"), (52.52437, 13.41053, 74.0), "Europe/Berlin"),
    city(("Bogotá", "Colombia", "CO"), (4.60971, -74.08175, 2582.0), "America/Bogota"),
    city(("Brussels", "Belgium", "BE"), (50.85045, 4.34878, 28.0), "Europe/Brussels"),
    city(("Buenos Aires", "Argentina", "AR"), (-34.61315, -58.37723, 31.0), "America/Argentina/Buenos_Aires"),
    city(("Cairo", "Egypt", "EG"), (30.06263, 31.24967, 23.0), "Africa/Cairo"),
    city(("Cape Town", "South Africa", "ZA"), (-33.92584, 18.42322, 25.0), "Africa/Johannesburg"),
    city(("Chicago", "United States", "US"), (41.85003, -87.65005, 180.0), "America/Chicago"),
    city(("Copenhagen", "Denmark", "DK"), (55.67594, 12.56553, 14.0), "Europe/Copenhagen"),
    city(("Delhi", "India", "IN"), (28.65195, 77.23149, 227.0), "Asia/Kolkata"),
    city(("Dublin", "Ireland", "IE"), (53.33306, -6.24889, 17.0), "Europe/Dublin"),
    city(("Helsinki", "Finland", "FI"), (60.16952, 24.93545, 26.0), "Europe/Helsinki"),
    city(("Hong Kong", "Hong Kong", "HK"), (22.27832, 114.17469, 58.0), "Asia/Hong_Kong"),
    city(("Istanbul", "Türkiye", "TR"), (41.01384, 28.94966, 39.0), "Europe/Istanbul"),
    city(("Jakarta", "Indonesia", "ID"), (-6.21462, 106.84513, 8.0), "Asia/Jakarta"),
    city(("Kyiv", "Ukraine", "UA"), (50.45466, 30.5238, 187.0), "Europe/Kyiv"),
    city(("Lagos", "Nigeria", "NG"), (6.45407, 3.39467, 11.0), "Africa/Lagos"),
    city(("Lima", "Peru", "PE"), (-12.04318, -77.02824, 154.0), "America/Lima"),
    city(("Lisbon", "Portugal", "PT"), (38.71667, -9.13333, 45.0), "Europe/Lisbon"),
    city(("London", "United Kingdom", "GB"), (51.50853, -0.12574, 25.0), "Europe/London"),
    city(("Los Angeles", "United States", "US"), (34.05223, -118.24368, 89.0), "America/Los_Angeles"),
    city(("Madrid", "Spain", "ES"), (40.4165, -3.70256, 657.0), "Europe/Madrid"),
    city(("Melbourne", "Australia", "AU"), (-37.814, 144.96332, 25.0), "Australia/Melbourne"),
    city(("Mexico City", "Mexico", "MX"), (19.42847, -99.12766, 2240.0), "America/Mexico_City"),
    city(("Montreal", "Canada", "CA"), (45.50884, -73.58781, 216.0), "America/Toronto"),
    city(("Mumbai", "India", "IN"), (19.07283, 72.88261, 14.0), "Asia/Kolkata"),
    city(("Munich", "Germany", "DE"), (48.13743, 11.57549, 524.0), "Europe/Berlin"),
    city(("Nairobi", "Kenya", "KE"), (-1.28333, 36.81667, 1684.0), "Africa/Nairobi"),
    city(("New York", "United States", "US"), (40.71427, -74.00597, 10.0), "America/New_York"),
    city(("Oslo", "Norway", "NO"), (59.91273, 10.74609, 26.0), "Europe/Oslo"),
    city(("Paris", "France", "FR"), (48.85341, 2.3488, 42.0), "Europe/Paris"),
    city(("Prague", "Czechia", "CZ"), (50.08804, 14.42076, 202.0), "Europe/Prague"),
    city(("Reykjavik", "Iceland", "IS"), (64.13548, -21.89541, 37.0), "Atlantic/Reykjavik"),
    city(("Rio de Janeiro", "Brazil", "BR"), (-22.90642, -43.18223, 13.0), "America/Sao_Paulo"),
    city(("Rome", "Italy", "IT"), (41.89193, 12.51133, 20.0), "Europe/Rome"),
    city(("San Francisco", "United States", "US"), (37.77493, -122.41942, 16.0), "America/Los_Angeles"),
    city(("Santiago", "Chile", "CL"), (-33.45694, -70.64827, 556.0), "America/Santiago"),
    city(("São Paulo", "Brazil", "BR"), (-23.5475, -46.63611, 769.0), "America/Sao_Paulo"),
    city(("Seoul", "South Korea", "KR"), (37.566, 126.9784, 38.0), "Asia/Seoul"),
    city(("Singapore", "Singapore", "SG"), (1.28967, 103.85007, 23.0), "Asia/Singapore"),
    city(("Stockholm", "Sweden", "SE"), (59.32938, 18.06871, 28.0), "Europe/Stockholm"),
    city(("Sydney", "Australia", "AU"), (-33.86785, 151.20732, 58.0), "Australia/Sydney"),
    city(("Tokyo", "Japan", "JP"), (35.6895, 139.69171, 44.0), "Asia/Tokyo"),
    city(("Toronto", "Canada", "CA"), (43.70643, -79.39864, 175.0), "America/Toronto"),
    city(("Vancouver", "Canada", "CA"), (49.24966, -123.11934, 70.0), "America/Vancouver"),
    city(("Vienna", "Austria", "AT"), (48.20849, 16.37208, 171.0), "Europe/Vienna"),
    city(("Warsaw", "Poland", "PL"), (52.22977, 21.01178, 113.0), "Europe/Warsaw"),
    city(("Zürich", "Switzerland", "CH"), (47.36667, 8.55, 429.0), "Europe/Zurich"),
];

#[cfg(test)]
mod tests {
    use super::{closest, folded, mistakes};

    #[test]
    fn a_name_is_found_whatever_its_case_and_accents() {
        assert_eq!(folded(" ZÜRICH "), folded("Zurich"));
    }

    #[test]
    fn mistakes_are_counted_one_by_one() {
        assert_eq!(mistakes("", "abc"), 3);
        assert_eq!(mistakes("kitten", "sitting"), 3);
        assert_eq!(mistakes("paris", "paris"), 0);
    }

    #[test]
    fn a_short_name_tolerates_one_mistake_only() {
        assert_eq!(closest("Rone"), Some("Rome"));
        assert_eq!(closest("Bonn"), None);
    }
}
