--- Data sets that travel inside mlax: 1,797 digits, and the tables that every textbook computes on.
--
-- Each gives train, test: the rows in the order permutation(key(0), n), the first four fifths (rounded down) to train, the others to
-- test. Class labels count from 1.
local core = require "mlax.core"
local mlax = require "mlax"
local check = require "mlax.check"
local dataset = require "mlax.data.dataset"
local files = require "mlax.data.files"

local embedded = {}

-- The rows of an embedded table in the order of the split; nil, message. skip: lines before the first row.
local function read(name, skip)
  local bytes, message = files.own(name)
  if not bytes then return nil, message end
  local rows
  rows, message = core.read_csv_bytes(bytes, name, {header = false, skip = skip})
  if not rows then return nil, message end
  return rows:take(mlax.random.permutation(mlax.random.key(0), #rows), 1)
end

-- Two datasets of the fields, which are arrays of all rows or texts for both.
local function split(fields)
  local n = #fields.x
  local train, test = {}, {}
  for name, v in pairs(fields) do
    local rows = mlax.is_array(v)
    train[name] = rows and v[{{1, n * 4 // 5}}] or v
    test[name] = rows and v[{{n * 4 // 5 + 1, n}}] or v
  end
  return dataset(train), dataset(test)
end

local function words(text)
  local list = {}
  for word in text:gmatch("%S+") do list[#list + 1] = word end
  return list
end

-- A table under one line of head, whose last column is the class from 0.
local function classified(name, classes, features)
  local rows, message = read(name .. ".csv.gz", 1)
  if not rows then return nil, message end
  local x, y = rows["..., 1:-2"], rows["..., -1"]:astype("int32") + 1
  return split{x = x, y = y, features = words(features), classes = words(classes)}
end

--- train, test = digits()
-- 1,797 handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak, UCI 1998; the test half of "Optical Recognition of Handwritten
-- Digits"): 1,437 to train, 360 to test. Fields: x float32[n,8,8] from 0 to 1 (the file's 0 to 16, divided by 16), y int32[n]: label
-- d + 1 for digit d, classes {"0", ..., "9"}.
-- @usage local train, test = data.digits()
-- print(train, #test)   --> dataset of 1437: x = float32[1437,8,8], y = int32[1437] 360
function embedded.digits(...)
  check.last("digits", ...)
  local rows, message = read("digits.csv.gz", 0)
  if not rows then return nil, message end
  local x, y = rows["..., 1:64"]:reshape{-1, 8, 8} / 16, rows["..., 65"]:astype("int32") + 1
  return split{x = x, y = y, classes = words "0 1 2 3 4 5 6 7 8 9"}
end

--- train, test = iris()
-- 150 flowers of three species, 50 of each (Fisher 1936): 120 to train, 30 to test. Fields: x float32[n,4] in centimetres, y int32[n],
-- classes {"setosa", "versicolor", "virginica"}, features (the names of the columns).
-- @usage local train, test = data.iris()
-- print(train, #test, train.classes[3])   --> dataset of 120: x = float32[120,4], y = int32[120] 30 virginica
function embedded.iris(...)
  check.last("iris", ...)
  return classified("iris", "setosa versicolor virginica", "sepal_length sepal_width petal_length petal_width")
end

--- train, test = wine()
-- 178 wines of three growers by 13 chemical measurements (Aeberhard and Forina, UCI 1991): 142 to train, 36 to test. Fields:
-- x float32[n,13] as measured, y int32[n], classes {"class_0", "class_1", "class_2"}, features.
-- @usage local train = data.wine()
-- print(train, train.features[13])   --> dataset of 142: x = float32[142,13], y = int32[142] proline
function embedded.wine(...)
  check.last("wine", ...)
  return classified("wine", "class_0 class_1 class_2", [[alcohol malic_acid ash alcalinity_of_ash magnesium total_phenols
    flavanoids nonflavanoid_phenols proanthocyanins color_intensity hue od280_od315 proline]])
end

--- train, test = breast_cancer()
-- 569 tumours by 30 measurements of their cells, ten of them as mean, standard error and worst (Wolberg, Street and Mangasarian, UCI
-- 1995): 455 to train, 114 to test. Fields: x float32[n,30] as measured, y int32[n], classes {"malignant", "benign"}, features.
-- @usage local train = data.breast_cancer()
-- print(train, train.features[11])   --> dataset of 455: x = float32[455,30], y = int32[455] radius_error
function embedded.breast_cancer(...)
  check.last("breast_cancer", ...)
  local cell = words [[radius texture perimeter area smoothness compactness concavity concave_points symmetry
    fractal_dimension]]
  local features = {}
  for _, kind in ipairs{"mean", "error", "worst"} do
    for _, name in ipairs(cell) do
      features[#features + 1] = name .. "_" .. kind
    end
  end
  return classified("breast_cancer", "malignant benign", table.concat(features, " "))
end

--- train, test = diabetes()
-- 442 patients by ten measurements, and how far their illness has gone a year later: a number, for regression (Efron, Hastie, Johnstone
-- and Tibshirani 2004): 353 to train, 89 to test. Fields: x float32[n,10] as measured, y float32[n] from 25 to 346, features.
-- @usage local train = data.diabetes()
-- print(train, train.features[3])   --> dataset of 353: x = float32[353,10], y = float32[353] bmi
function embedded.diabetes(...)
  check.last("diabetes", ...)
  local rows, message = read("diabetes.csv.gz", 1)
  if not rows then return nil, message end
  return split{x = rows["..., 1:-2"], y = rows["..., -1"], features = words "age sex bmi bp s1 s2 s3 s4 s5 s6"}
end

return embedded
