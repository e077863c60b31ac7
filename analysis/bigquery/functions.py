"""Which functions of GoogleSQL are known, and what each may do. An allow-list over the names as written.

A name without a dataset in front of it can only be built in (or a temporary function of the same script), a name with
one a stored routine, except for the few prefixes GoogleSQL itself uses (`NET.`, `HLL_COUNT.`, …). Names are compared
without case, as BigQuery does.
"""

from __future__ import annotations

from collections.abc import Mapping

from analysis.words import words

# "GoogleSQL function reference", the functions whose result depends on nothing but their arguments and the clock.
BUILTIN = words(
    """
    abs acos acosh any_value append approx_count_distinct approx_quantiles approx_top_count approx_top_sum array
    array_agg array_concat array_concat_agg array_filter array_find array_find_all array_first array_includes
    array_includes_all array_includes_any array_is_distinct array_last array_length array_max array_min array_offset
    array_offsets array_reverse array_slice array_sum array_avg array_to_string array_transform array_zip
    flatten ascii asin asinh atan atan2 atanh avg bag_of_words bit_and bit_count bit_or bit_xor bool byte_length
    cast cbrt ceil ceiling char_length character_length chr coalesce code_points_to_bytes code_points_to_string
    collate concat contains_substr corr cos cosh cosine_distance cot coth count countif covar_pop covar_samp csc csch
    cume_dist current_date current_datetime current_time current_timestamp date date_add date_bucket date_diff
    date_from_unix_date date_sub date_trunc datetime datetime_add datetime_bucket datetime_diff datetime_sub
    datetime_trunc dense_rank div edit_distance ends_with error euclidean_distance exp extract farm_fingerprint
    first_value float64 floor format format_date format_datetime format_time format_timestamp from_base32 from_base64
    from_hex generate_array generate_date_array generate_range_array generate_timestamp_array generate_uuid greatest
    grouping ieee_divide if ifnull initcap instr int64 is_inf is_nan is_first is_last iferror iserror nulliferror
    json_array json_array_append
    json_array_insert json_extract json_extract_array json_extract_scalar json_extract_string_array json_keys
    json_object json_query json_query_array json_remove json_set json_strip_nulls json_type json_value
    json_value_array justify_days justify_hours justify_interval lag last_day last_value lax_bool lax_float64
    lax_int64 lax_string lead least left length ln log log10 logical_and logical_or lower lower_bound lpad ltrim
    make_interval max max_by md5 min min_by mod normalize normalize_and_casefold nth_value ntile nullif nullifzero
    octet_length offset ordinal parse_bignumeric parse_date parse_datetime parse_json parse_numeric parse_time
    parse_timestamp percent_rank percentile_cont percentile_disc pi pow power rand range range_bucket range_contains
    range_end range_intersect range_overlaps range_sessionize range_start rank regexp_contains regexp_extract
    regexp_extract_all regexp_instr regexp_replace regexp_substr repeat replace reverse right round row_number rpad
    rtrim s2_cellidfrompoint s2_coveringcellids safe_add safe_cast safe_convert_bytes_to_string safe_divide
    safe_multiply safe_negate safe_offset safe_ordinal safe_subtract search sec sech session_user sha1 sha256 sha512
    sign sin sinh soundex split sqrt starts_with stddev stddev_pop stddev_samp string string_agg string_array
    strpos struct substr substring sum tan tanh text_analyze tf_idf time time_add time_diff time_sub time_trunc
    timestamp timestamp_add timestamp_bucket timestamp_diff timestamp_from_unix_micros timestamp_from_unix_millis
    timestamp_from_unix_seconds timestamp_micros timestamp_millis timestamp_seconds timestamp_sub timestamp_trunc
    to_base32 to_base64 to_code_points to_hex to_json to_json_string translate trim trunc typeof unicode unix_date
    unix_micros unix_millis unix_seconds upper var_pop var_samp variance zeroifnull
    st_angle st_area st_asbinary st_asgeojson st_astext st_azimuth st_boundary st_boundingbox st_buffer
    st_bufferwithtolerance st_centroid st_centroid_agg st_closestpoint st_clusterdbscan st_contains st_convexhull
    st_coveredby st_covers st_difference st_dimension st_disjoint st_distance st_dump st_dwithin st_endpoint
    st_equals st_extent st_exteriorring st_geogfrom st_geogfromgeojson st_geogfromtext st_geogfromwkb st_geoghash
    st_geogpoint st_geogpointfromgeohash st_geohash st_geometrytype st_hausdorffdistance st_hausdorffdwithin
    st_interiorrings st_intersection st_intersects st_intersectsbox st_isclosed st_iscollection st_isempty st_isring
    st_length st_lineinterpolatepoint st_linelocatepoint st_linesubstring st_makeline st_makepolygon
    st_makepolygonoriented st_maxdistance st_npoints st_numgeometries st_numpoints st_perimeter st_pointn
    st_simplify st_snaptogrid st_startpoint st_touches st_union st_union_agg st_within st_x st_y
    net.host net.ip_from_string net.ip_in_net net.ip_net_mask net.ip_to_string net.ip_trunc net.ipv4_from_int64
    net.ipv4_to_int64 net.make_net net.public_suffix net.reg_domain net.safe_ip_from_string
    hll_count.extract hll_count.init hll_count.merge hll_count.merge_partial
    kll_quantiles.init_int64 kll_quantiles.init_float64 kll_quantiles.merge_partial kll_quantiles.merge_int64
    kll_quantiles.merge_float64 kll_quantiles.extract_int64 kll_quantiles.extract_float64
    kll_quantiles.merge_point_int64 kll_quantiles.merge_point_float64 kll_quantiles.extract_point_int64
    kll_quantiles.extract_point_float64
    """
)
# These reach beyond the warehouse, or run what they are given, whatever else is understood.
OUTWARD = frozenset({"external_query", "st_regionstats"})

# First parts of a qualified call that are GoogleSQL's own, never a dataset.
PREFIXES = words("net hll_count kll_quantiles safe keys aead ml ai obj d3a bqml vector_index")

# Words that may stand before a parenthesis without being a function.
NOT_CALLS = words(
    """
    select from where and or not in as on using values over exists unnest except replace by when then else case
    having qualify limit union all distinct intersect any some partition order group between like is window struct
    array pivot unpivot for rollup cube sets grouping interval cross join inner left right full outer with recursive
    tablesample percent insert into update delete merge matched set if elseif while until repeat loop do return
    options returns language cluster default check primary key foreign references rows range filter call begin end
    table materialized view columns ignore respect nulls name corresponding strict begin declare
    string bytes numeric bignumeric decimal bigdecimal
    """
)

# Words of the grammar that may also be a column's name, and are no name where they stand for a date part or a type.
KEYWORDS = words(
    """
    date time datetime timestamp year quarter month week day dayofweek dayofyear hour minute second millisecond
    microsecond isoyear isoweek string bytes int64 float64 numeric bool json geography interval range struct array
    offset ordinal rows row value key all end start type name status state values options current first last desc asc
    """
) - words("name value key status state type")

# The keys of sqlglot's nodes (class names in lower case) and plain names that cannot fail whatever they meet.
TOTAL = words(
    """
    lower upper initcap length trim ltrim rtrim reverse concat coalesce ifnull if nullif greatest least array
    arraysize array_length arraytostring array_to_string arrayagg array_agg stringagg groupconcat string_agg min max
    count countif anyvalue approxdistinct rownumber rank denserank percentrank cumedist ntile lag lead firstvalue
    lastvalue nthvalue startswith endswith starts_with ends_with contains_substr strpos jsonformat to_json_string
    jsonextract jsonextractscalar json_type jsontype md5 md5digest sha sha1digest sha2 sha2digest sha256
    farmfingerprint farm_fingerprint tobase64 to_base64 hex to_hex unicode soundex normalize extract
    currenttimestamp distinct logicaland logicalor approxtopk approxtopsum approxquantile approx_quantiles
    safedivide safe_divide typeof sign unixdate tocodepoints struct tostring split dpipe eq neq gt gte lt lte
    nullsafeeq nullsafeneq is isinf isnan bitwisenot case in between not and or xor paren alias currentuser
    sessionuser uuid rand ignorenulls respectnulls havingmax order limit cast_string trycast safefunc window booland
    boolor
    """
)
# Total over what a column holds, not over what an expression may make of it: the smallest integer has no absolute
# value, sums and roundings overflow, letters beyond ASCII have no code, numbers may not fit into JSON, and an array
# that is shown holds no NULL.
TOTAL_OF_STORED = words(
    """
    abs floor ceil round sum avg stddev stddevpop stddevsamp variance variancepop ascii to_json jsonarray jsonobject
    jsonvaluearray jsonextractarray
    """
)
# Total as long as no stored value reaches these arguments: a length may be negative, a pattern may end in an escape, a
# format may be none, a zone may be unknown, a text may be no time ("+25:00" answers a question about the hour), a place
# to begin at may be 0, an interval too long.
FAILS_BY: Mapping[str, tuple[str, ...]] = {
    "substring": ("length",),
    "like": ("expression",),
    "format": ("this",),
    "round": ("decimals",),
    "strposition": ("position", "occurrence"),
    "interval": ("this",),
    "timetostr": ("format", "zone"),
    **dict.fromkeys(("currentdate", "currentdatetime", "currenttime"), ("this",)),
    **dict.fromkeys(("date", "datetime", "timestamp"), ("expression", "zone")),
}
# These fail for texts that are no time, never for a stored time ("Conversion rules").
READS_TIME = frozenset({"date", "datetime", "timestamp", "tsordstodate"})
TIMES = frozenset({"DATE", "DATETIME", "TIMESTAMP"})
SAFE_AGGREGATES = frozenset({"count"})
# One row of these can carry many rows.
COLLECTING = words(
    """
    arrayagg array_agg groupconcat string_agg stringagg arrayconcatagg array_concat_agg approxtopk approxtopsum
    approx_top_count approx_top_sum approxquantile approx_quantiles st_union_agg hll_count.init range_sessionize
    """
)
# Views of INFORMATION_SCHEMA that quote other people's statements, results or errors.
SIDE_DOORS = ("JOBS", "SESSIONS", "RECOMMENDATIONS", "INSIGHTS", "OBJECT_PRIVILEGES")


def is_side_door(view: str) -> bool:
    return view.upper().startswith(SIDE_DOORS)
